"""How the slices of a volume decide together whether there is a tumour, and of which class.

**Why not the maximum.** A model that is wrong about one healthy slice in fifty is wrong about some slice of nearly
every healthy volume of 150. A tumour, however, is seen on several slices in a row, and chance seldom is. So a volume is
called a tumour where ``agree`` neighbouring slices *all* are, and its tumour probability is the highest that ``agree``
neighbouring slices all reach:

    P(tumour) = max over windows of min over the slices of a window of P(tumour on the slice)

``agree`` is the number of slices in :data:`SPAN_MM` millimetres, from :data:`FEWEST` to :data:`MOST` of them, and
:data:`FEWEST` plus one where the distance of the slices is not known: slices 1 mm apart show nearly the same picture,
so that two of them are no more evidence than one. One slice between them may be left out that could not be read or
shows no brain; such slices have no say anywhere else either.

P(tumour) is shared out among the tumour classes as the window does on average. That is a rule and no fit: there are no
volumes of known diagnosis here to calibrate it on, so it orders volumes, and 0.9 does not promise nine right of ten.

**Findings** are boxes joined across slices (:mod:`detectclf.inference.findings`) on at least ``agree`` slices; shorter
ones are flickers, which are counted apart and do not make a tumour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detectclf.inference.findings import BRIDGED
from detectclf.prediction import Prediction

SPAN_MM = 6.0
"""Millimetres that neighbouring slices which agree cover."""
FEWEST, MOST = 2, 6
"""Least and greatest number of slices that have to agree."""


def tumor_probability(prediction: Prediction, negative: str | None) -> float | None:
    """Of a slice that was read and shows a brain; without a negative class, the probability of its class."""
    if prediction.error is not None or not prediction.judged:
        return None
    if negative is None:
        return prediction.confidence
    return 1 - prediction.probabilities[negative]


def slices_that_agree(step: float | None, slices: int) -> int:
    """How many neighbouring slices have to agree, of a volume with ``slices`` that are ``step`` millimetres apart."""
    wanted = FEWEST + 1 if step is None or step <= 0 else min(max(math.ceil(SPAN_MM / step - 0.01), FEWEST), MOST)
    return max(1, min(wanted, slices))


def windows_of(slices: Sequence[Prediction], agree: int) -> list[list[Prediction]]:
    """All ``agree`` neighbouring slices that have a say; one between them may have none."""
    judged = [number for number, each in enumerate(slices) if each.error is None and each.judged]
    starts = range(len(judged) - agree + 1)
    near = [judged[start : start + agree] for start in starts]
    return [[slices[i] for i in window] for window in near if window[-1] - window[0] < agree + BRIDGED]


def verdict(windows: Sequence[Sequence[Prediction]], negative: str | None) -> tuple[str, dict[str, float]]:
    """Class and probabilities by the rule of this module."""
    classes = list(windows[0][0].probabilities)
    # (windows, slices of each, classes)
    values = [np.array([[each.probabilities[name] for name in classes] for each in window]) for window in windows]
    if negative is None:
        reached = np.max([each.min(axis=0) for each in values], axis=0)
        shares = reached / max(float(reached.sum()), 1e-12)
        return classes[int(shares.argmax())], dict(zip(classes, map(float, shares), strict=True))
    at = classes.index(negative)
    level = [float((1 - each[:, at]).min()) for each in values]
    called = [all(each.label != negative for each in window) for window in windows]
    best = max(range(len(windows)), key=lambda i: (called[i], level[i]))
    shares = values[best].mean(axis=0)
    shares[at] = 0
    shares *= max(level) / max(float(shares.sum()), 1e-12)
    shares[at] = 1 - float(shares.sum())
    tumors = [i for i in range(len(classes)) if i != at]
    label = classes[max(tumors, key=lambda i: shares[i])] if called[best] else negative
    return label, dict(zip(classes, map(float, shares), strict=True))


__all__ = ["FEWEST", "MOST", "SPAN_MM", "slices_that_agree", "tumor_probability", "verdict", "windows_of"]
