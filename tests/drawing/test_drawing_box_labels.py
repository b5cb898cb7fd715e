"""Labels of boxes lie inside the picture and on no other label, at their box where there is room."""

from __future__ import annotations

import pytest

from detectclf.drawing.box_labels import place

SIZE, LABEL = (200, 100), (60, 20)

# Box, and where its label goes.
PLACES = {
    "above": ((20, 40, 120, 80), (20, 20)),
    "below, at the top of the picture": ((20, 5, 120, 60), (20, 60)),
    "inside, over the whole height": ((20, 0, 120, 100), (20, 0)),
    "moved left, at the right edge": ((180, 40, 199, 80), (140, 20)),
    "not moved left of the picture": ((-5, 40, 30, 80), (0, 20)),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_label_alone(name: str) -> None:
    box, (left, top) = PLACES[name]
    assert place(box, LABEL, SIZE, []) == (left, top, left + 60, top + 20)


def test_labels_of_one_box_do_not_cover_each_other_as_long_as_there_is_room() -> None:
    taken: list[tuple[float, float, float, float]] = []
    for _ in range(10):  # two columns of five rows
        taken.append(place((70, 40, 130, 60), LABEL, SIZE, taken))
    for i, one in enumerate(taken):
        assert one[0] >= 0 and one[2] <= SIZE[0] and one[1] >= 0 and one[3] <= SIZE[1]
        met = [o for o in taken[:i] if one[0] < o[2] and o[0] < one[2] and one[1] < o[3] and o[1] < one[3]]
        assert i >= 5 or not met


def test_a_label_larger_than_the_picture_starts_at_its_corner() -> None:
    assert place((5, 5, 10, 10), (60, 20), (30, 10), [])[:2] == (0, 0)
