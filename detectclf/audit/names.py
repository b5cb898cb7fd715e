"""Checks of names: class names, file names that contradict the label."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from detectclf.datasets.class_names import (
    foreign_names,
    known_names,
    means_any_tumor,
    nearest_class,
    uses_canonical_classes,
)
from detectclf.formats.faults import Faults
from detectclf.types import ANY_TUMOR, NEGATIVE_CLASS, Dataset, Sample, canonical_class

# File names of the public set that the Roboflow set was made from: Tr-gl_0010.jpg, Te-noTr_0003.jpg.
_PREFIX = re.compile(r"^t[re]-(gl|me|no|pi)(?=t[re]|[-_ .\d])", re.IGNORECASE)


def check_classes(parts: Sequence[Dataset], reports: Sequence[Faults], class_map: Mapping[str, str]) -> None:
    """Notes faults of class names over all data sets together.

    These are ``unknown_class``, ``class_spelling``, ``unused_class``, ``class_not_there`` (a name of the user's that no
    data set has) and ``no_known_type`` (training needs a tumour of known type).

    Args:
        parts: the data sets.
        reports: where the faults of each go.
        class_map: the user's own spellings.
    """
    declared = [name for part in parts for name in part.classes]
    known = known_names(declared, class_map)
    for note in foreign_names(declared, class_map):
        reports[0].warning("class_not_there", reports[0].root, note)
    canonical = uses_canonical_classes(known)
    used = Counter(name for part in parts for sample in part.samples for name in _names_on(sample))
    for part, faults in zip(parts, reports, strict=True):
        spellings: dict[str, list[str]] = {}
        for name in part.classes:
            found = known[name]
            spellings.setdefault(found or re.sub(r"[\W_]", "", name.casefold()), []).append(name)
            if not used[name]:
                faults.warning("unused_class", faults.root, f"class {name!r} is declared and on no slice")
            elif canonical and found is None:
                hint = _hint(name)
                faults.error("unknown_class", faults.root, f"class {name!r} on {used[name]} slices is not known{hint}")
        for found_as, names in spellings.items():
            if len(names) > 1:
                detail = f"one class ({found_as}) is spelt {' and '.join(map(repr, names))}"
                # Canonical classes are merged by the alias table; others would be trained on as two classes.
                report = faults.warning if found_as in known.values() else faults.error
                report("class_spelling", faults.root, detail)
    kinds = {found or name for name, found in known.items()} - {NEGATIVE_CLASS}
    if kinds == {ANY_TUMOR} and any(used[name] for name, found in known.items() if found == ANY_TUMOR):
        detail = "every tumour is of unknown type, so nothing can be trained on these data alone"
        reports[0].warning("no_known_type", reports[0].root, detail)


def _hint(name: str) -> str:
    if means_any_tumor(name):
        return f"; if it means a tumour of unknown type, say --any-tumor {shlex.quote(name)}"
    guess = nearest_class(name)
    return f"; did you mean {guess}?" if guess else ""


def _names_on(sample: Sample) -> set[str]:
    return {name for name in (sample.label, *sample.box_labels) if name is not None}


def check_prefixes(part: Dataset, faults: Faults) -> None:
    """Notes ``name_contradicts_label``: a file called ``Tr-gl_...`` that is labelled as something else."""
    for sample in part.samples:
        match = _PREFIX.match(sample.name.rsplit("/", 1)[-1])
        label = canonical_class(sample.label) if sample.label is not None else None
        if label == ANY_TUMOR and match is not None and canonical_class(match[1]) != NEGATIVE_CLASS:
            continue
        if match is not None and label is not None and canonical_class(match[1]) != label:
            detail = f"{sample.name}: the name says {canonical_class(match[1])}, the label {label}"
            faults.warning("name_contradicts_label", sample.path, detail)


__all__ = ["check_classes", "check_prefixes"]
