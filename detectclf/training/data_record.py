"""What a run says of its slices (``data.json``): counts, and a hash by which a resumed run knows them again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from detectclf.types import Dataset, Sample

PARTS = ("train", "valid")
CHANGES = "changes"
"""Key of the earlier slices of a run that was resumed with changed ones, the first first."""

_HASH = "content_sha256"


def describe_slices(samples: Sequence[Sample], sha256: Sequence[bytes]) -> dict[str, Any]:
    """Counts by class, with and without boxes, of known patients; and a hash over contents, labels and boxes, in order.

    No name of a file or folder goes into the hash: data may be moved or renamed.

    Args:
        samples: slices of one split, with their patients.
        sha256: of the encoded bytes of each.
    """
    digest = hashlib.sha256()
    for s, content in zip(samples, sha256, strict=True):
        labels = (s.label, s.boxed, s.box_labels, s.boxes_xyxy.round(2).tolist())
        digest.update(content + repr(labels).encode("utf-8", "replace"))
    return {
        "samples": len(samples),
        "boxed": sum(s.boxed for s in samples),
        "boxes": sum(len(s.box_labels) for s in samples),
        "classes": dict(sorted(Counter(s.label for s in samples if s.label is not None).items())),
        "patients": len({s.patient for s in samples if s.patient is not None}),
        "slices_with_patient": sum(s.patient is not None for s in samples),
        _HASH: digest.hexdigest(),
    }


def data_record(dataset: Dataset, train: Mapping[str, Any], valid: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``data.json``, from the two splits as :func:`describe_slices` describes them."""
    return {
        "sources": list(dataset.sources),
        "classes": list(dataset.classes),
        "negative": dataset.negative,
        "train": dict(train),
        "valid": dict(valid),
    }


def changed_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The splits whose slices or labels differ; none if ``before`` was written by a version that kept no such hash."""
    hashes = {part: before.get(part, {}).get(_HASH) for part in PARTS}
    return [part for part in PARTS if hashes[part] is not None and hashes[part] != now[part][_HASH]]


def with_changes(before: Mapping[str, Any], now: Mapping[str, Any], *, changed: bool, epochs: int) -> dict[str, Any]:
    """``now`` with the slices of before that the run was trained on as well.

    Args:
        before, now: contents of ``data.json``.
        changed: whether the slices of ``before`` are others.
        epochs: how many epochs were finished with them.
    """
    changes = list(before.get(CHANGES, ()))
    if changed:
        changes.append({"epochs": epochs, **{part: before[part] for part in PARTS}})
    return {**now, **({CHANGES: changes} if changes else {})}
