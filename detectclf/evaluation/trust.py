"""Whether the model says so where it is not to be trusted: confident misses, and mistakes that carry a flag.

A tumour slice that is called tumour-free with a probability above :data:`SURE` is a confident miss, the worst that a
model can say. Slices whose tumour type is not known count: calling them tumour-free is a mistake, any tumour class is
none.
"""

from __future__ import annotations

import numpy as np

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.sections import Trust
from detectclf.evaluation.weighted import Bools, Values, WeightedFigures, ratio
from detectclf.types import ANY_TUMOR, ARTEFACTS, CROPPED, LOW_CONFIDENCE, ORIENTATION, SEVERAL_SLICES, UNUSUAL_INPUT

SURE = 0.9
LOW_TRUST = frozenset({ARTEFACTS, CROPPED, LOW_CONFIDENCE, ORIENTATION, SEVERAL_SLICES, UNUSUAL_INPUT})
"""Flags that ask not to trust the class."""


def is_healthy(data: Aligned) -> Bools:
    """``(I,)`` whether each slice is of the negative class."""
    return np.array([data.negative is not None and s.label == data.negative for s in data.samples], dtype=np.bool_)


def is_tumor(data: Aligned) -> Bools:
    """``(I,)`` whether each slice is known to show a tumour, also one of unknown type."""
    known = np.array([s.label is not None for s in data.samples], dtype=np.bool_)
    return np.asarray(known & ~is_healthy(data))


def called_tumor(data: Aligned) -> Bools:
    """``(I,)`` whether the prediction names a tumour class."""
    return np.array([p.label is not None and p.label != data.negative for p in data.predictions], dtype=np.bool_)


def is_mistake(data: Aligned) -> Bools:
    """``(I,)`` whether the class of a slice that is labelled is predicted wrong."""
    tumors = called_tumor(data)
    return np.array(
        [
            not tumors[i] if s.label == ANY_TUMOR else s.label is not None and data.predictions[i].label != s.label
            for i, s in enumerate(data.samples)
        ],
        dtype=np.bool_,
    )


def is_confident_miss(data: Aligned) -> Bools:
    """``(I,)`` whether a tumour slice is called tumour-free with a probability above :data:`SURE`."""
    sure = [p.label == data.negative and p.probabilities.get(str(p.label), 0.0) > SURE for p in data.predictions]
    return np.asarray(is_tumor(data) & np.array(sure, dtype=np.bool_))


def is_flagged(data: Aligned) -> Bools:
    """``(I,)`` whether the prediction carries a flag of :data:`LOW_TRUST`."""
    return np.array([bool(LOW_TRUST & set(p.flags)) for p in data.predictions], dtype=np.bool_)


def trust_figures(data: Aligned) -> list[WeightedFigures]:
    """Confident misses by tumour slice, and the share of mistakes that carry a flag of low trust."""
    mistakes = is_mistake(data)
    return [
        *(
            [ratio(is_confident_miss(data), is_tumor(data), "combined.confident_misses")]
            if data.negative is not None
            else []
        ),
        ratio(mistakes & is_flagged(data), mistakes, "combined.mistakes_flagged"),
    ]


def trust_section(data: Aligned, values: Values) -> Trust:
    """The figures of the report; ``values`` holds those of :func:`trust_figures`."""
    return Trust(
        confident_misses=values.get("combined.confident_misses"),
        confident_miss_slices=int(is_confident_miss(data).sum()),
        mistakes=int(is_mistake(data).sum()),
        mistakes_flagged=values.get("combined.mistakes_flagged"),
    )
