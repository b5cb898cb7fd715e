"""File names for pictures: different for each input, and legal on every file system."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectclf.inference.picture_names import picture_names


def test_names_of_pictures_name_the_part() -> None:
    assert picture_names(["a.nii.gz", "b.tif"], "coronal.7") == ["a.coronal.7.pred.png", "b.coronal.7.pred.png"]


@pytest.mark.parametrize(
    ("inputs", "expected", "reason"),
    [
        (["a.jpg", "b.png"], ["a", "b"], "stems"),
        (["w/a.jpg", "v/b.jpg"], ["a", "b"], "folders only where needed"),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"], "equal stems of one folder"),
        (["w/a.jpg", "v/a.jpg", "v/b.jpg"], ["w__a.jpg", "v__a.jpg", "b"], "equal names of two folders"),
        (["x/w/a.jpg", "y/w/a.jpg"], ["x__w__a.jpg", "y__w__a.jpg"], "equal names of equal folders"),
        (["A.jpg", "a.jpg"], ["A.jpg", "a.jpg-2"], "case does not count on some systems"),
        (["a.jpg", "a.jpg"], ["a.jpg", "a.jpg-2"], "one input twice"),
        (["brain.nii.gz"], ["brain"], "a double suffix"),
        (["x.rf.12.jpg"], ["x.rf.12"], "dots in the stem"),
        (["new\nline?.jpg", "🧠.jpg", "-x.jpg"], ["new_line_", "🧠", "-x"], "odd signs"),
        (["con.jpg"], ["_con"], "a device of Windows"),
        ([os.fsdecode(b"caf\xe9.jpg")], ["caf_"], "bytes that are no UTF-8"),
        ([".jpg"], [".jpg"], "only a suffix"),
        ([], [], "nothing"),
    ],
)
def test_picture_names(inputs: list[str], expected: list[str], reason: str) -> None:
    assert picture_names(inputs) == [f"{name}.pred.png" for name in expected], reason


def test_a_long_name_is_cut_and_stays_different() -> None:
    one, two = picture_names(["ä" * 240 + "1.jpg", "ä" * 240 + "2.jpg"])
    assert one != two and max(len(one.encode()), len(two.encode())) <= 255


@settings(max_examples=40)
@given(st.lists(st.text(max_size=12), max_size=8))
def test_picture_names_can_be_written_side_by_side(names: list[str]) -> None:
    made = picture_names([name + ".jpg" for name in names])
    assert len({name.casefold() for name in made}) == len(names)
    for name in made:
        assert name.encode("utf-8") and not set(name) & set('/\\:*?"<>|\0\n')
