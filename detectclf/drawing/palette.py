"""One colour per class, the same in every picture, sheet and figure.

The colours are those of Okabe and Ito, "Color Universal Design" (2008): people with any of the common colour
vision deficiencies can distinguish them, and all stand out from grey slices.
"""

from __future__ import annotations

from collections.abc import Sequence

Rgb = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

CLASS_COLORS: dict[str, Rgb] = {
    "glioma": (230, 159, 0),
    "meningioma": (86, 180, 233),
    "no_tumor": (0, 158, 115),
    "pituitary": (204, 121, 167),
}
"""Colours of the canonical classes."""

# For a data set's own classes; yellow and vermilion come first, since dark blue is hard to see on a dark slice.
OTHER_COLORS: tuple[Rgb, ...] = ((240, 228, 66), (213, 94, 0), (0, 114, 178), (187, 187, 187))

UNKNOWN_COLOR: Rgb = (187, 187, 187)
"""For a class that the data set does not have, and for a slice without a label."""


def color_of(class_name: str | None, classes: Sequence[str]) -> Rgb:
    """The colour of ``class_name`` as ``(red, green, blue)``, each 0 to 255.

    Args:
        class_name: a class, or ``None`` where it is not known (grey).
        classes: all classes of the data set; those that are not canonical get the other colours in order, repeatedly.
    """
    if class_name is not None and class_name in CLASS_COLORS:
        return CLASS_COLORS[class_name]
    others = [name for name in classes if name not in CLASS_COLORS]
    if class_name in others:
        return OTHER_COLORS[others.index(class_name) % len(OTHER_COLORS)]
    return UNKNOWN_COLOR


def text_color_on(background: Rgb) -> Rgb:
    """Black or white, whichever reads better on ``background`` (relative luminance by ITU-R BT.601)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
