"""From the class names of the data to the classes that are trained on.

The rule, over all sources together:

1. A name in ``data.class_map`` becomes what the map says, one in ``data.any_tumor`` a tumour of unknown type.
2. A known spelling becomes its canonical class (the alias table in :mod:`detectclf.types`).
3. If a tumour name became canonical, the data use the canonical classes, and any other name on a slice is an error
   that suggests the nearest class: it is a misspelling, or a class that the user has to name explicitly.
4. Otherwise the data have classes of their own, which stay as they are; two that differ only in case or punctuation
   are an error.
"""

from __future__ import annotations

import difflib
import logging
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from detectclf.errors import ConfigError, DataError
from detectclf.formats.assemble import check_any_tumor, spelling
from detectclf.types import ANY_TUMOR, CANONICAL_CLASSES, NEGATIVE_CLASS, Sample, canonical_class

_log = logging.getLogger(__name__)

_TUMOR_WORDS = frozenset(
    {"tumor", "tumors", "tumour", "tumours", "lesion", "lesions", "mass", "positive", "yes", "abnormal", "cancer"}
)
_NOT = frozenset({"no", "non", "not", "without", "free", "kein", "keine", "ohne", "sans", "sin", "senza", "sem"})
_SLIP = 0.8
"""Likeness of two names from which one is taken for a slip in the other."""
_PLAIN_NEGATIVES = frozenset({"none", "healthy", "normal", "negative", "neg"})
_APART = r"(?:\s+|[_-]+)"
_INVERTED = re.compile(
    rf"(?<![a-z])({'|'.join(sorted(_NOT - {'free'}))}){_APART}(?!\1(?![a-z]))"
    rf"(?:(?:tumou?rs?|lesions?|mass|cancer){_APART}free|{'|'.join(sorted(_NOT | _PLAIN_NEGATIVES))}|non?tu[a-z]*)"
    r"(?![a-z])"
)
"""A "not" directly before another negative word: "not healthy", "not tumor free". "No - no tumor" only repeats it."""


def map_names(names: Mapping[str, str], used: Iterable[str], class_map: Mapping[str, str]) -> dict[str, str]:
    """Class name in the data -> class, for every name that is kept.

    Args:
        names: every declared name -> the source that declares it.
        used: the names that a slice or box has.
        class_map: the user's own spellings.

    Raises:
        DataError: a name on a slice is unknown, or one class comes in several spellings.
    """
    known = known_names(names, class_map)
    for key, value in class_map.items():
        if canonical_class(value) is None and spelling(value) not in map(spelling, names):
            _log.info("data.class_map: %r becomes %r, a class of its own, which the data do not name", key, value)
    for note in foreign_names(names, class_map):
        _log.warning(note)
    if not uses_canonical_classes(known):
        own = {name: found or name for name, found in known.items()}
        _check_spellings(own, names)
        return own
    used = set(used)
    for name, found in known.items():
        if found is None and name in used:
            raise _unknown(name, names[name])
        if found is None:
            _log.warning("%s: class %r is declared, unknown and on no slice; left out", names[name], name)
    return {name: found for name, found in known.items() if found is not None}


def known_names(names: Iterable[str], class_map: Mapping[str, str]) -> dict[str, str | None]:
    """Each name -> the class that the map or the alias table gives it, or ``None``.

    Raises:
        ConfigError: the negative class is said to be a tumour of unknown type, or a name is mapped to a misspelt class.
    """
    names = tuple(names)
    for key, value in class_map.items():
        if canonical_class(value) == ANY_TUMOR:
            check_any_tumor(key)
        _check_target(key, class_map, names)
    wanted = {spelling(key): canonical_class(value) or value for key, value in class_map.items()}
    return {name: wanted.get(spelling(name)) or canonical_class(name) for name in names}


def _check_target(key: str, class_map: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuses a class that is almost, but not quite, a class of the data or of ours: it would be a class of its own.

    A class onto which several are mapped is meant to be one of its own, and names that are mapped away are none.
    """
    value, mapped = class_map[key], {spelling(name) for name in class_map}
    shared = sum(spelling(other) == spelling(value) for other in class_map.values()) > 1
    if shared or canonical_class(value) is not None or spelling(value) in {spelling(key), *map(spelling, names)}:
        return
    others = [spelling(name) for name in names if spelling(name) not in mapped]
    meant = difflib.get_close_matches(spelling(value), [*CANONICAL_CLASSES, *others], 1, _SLIP)
    if meant:
        own = "" if meant[0] == spelling(key) else f", or ={key} to keep it as a class of its own"
        raise ConfigError(
            f"data.class_map.{key}: no class {value!r}, did you mean {meant[0]}?",
            remedy=f"say --set 'data.class_map.{key}={meant[0]}'{own}",
        )


def foreign_names(names: Iterable[str], class_map: Mapping[str, str]) -> list[str]:
    """A line for each name in ``class_map`` that is none of ``names``."""
    listed = tuple(names)
    there = {spelling(name) for name in listed}
    return [
        f"data.{'any_tumor' if value == ANY_TUMOR else 'class_map'}: no source has a class {key!r}; "
        f"there is {', '.join(map(repr, listed)) or 'none'}"
        for key, value in class_map.items()
        if spelling(key) not in there
    ]


def uses_canonical_classes(known: Mapping[str, str | None]) -> bool:
    """Whether the data use the canonical classes: some tumour name is a spelling of one of them."""
    return any(c in CANONICAL_CLASSES and c != NEGATIVE_CLASS for c in known.values())


def nearest_class(name: str) -> str | None:
    """The canonical class whose name is most similar to ``name``, or ``None`` where none is similar.

    A name that says no, none, healthy, normal or negative is never taken for a tumour, and no other name for the
    negative class: a hint that is followed without a thought must not make tumours healthy.
    """
    whole = spelling(name).strip("_")
    rest = re.sub(r"_?tumou?rs?$", "", whole)
    tumors = [c for c in CANONICAL_CLASSES if c != NEGATIVE_CLASS]
    # First without the word for a tumour, which would make names of tumours alike.
    likely = next((found for text in (rest, whole) if (found := _close(text, tumors))), None)
    if not says_none(name):
        return canonical_class(rest) or likely
    words = set(_words(name))
    # "no glioma" may still be a meningioma, and "not yet healthy" or "not yet tumor free" a tumour.
    if likely is not None or words & {"not", "free"}:
        return None
    plain = words & _PLAIN_NEGATIVES and not words & _NOT
    return NEGATIVE_CLASS if plain or _close("_".join(_words(name)), [NEGATIVE_CLASS]) else None


def _close(text: str, names: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(text, names, n=1, cutoff=0.6)), None)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", _lower(name))


def _lower(name: str) -> str:
    return name.casefold().replace("n0", "no")  # a zero for an o


def says_none(name: str) -> bool:
    """Whether ``name`` says that there is no tumour, or that something is missing: "not healthy" does not."""
    if _INVERTED.search(_lower(name)):
        return False
    words = _words(name)
    return bool(set(words) & (_NOT | _PLAIN_NEGATIVES)) or any(re.match(r"non?_?tu", word) for word in words)


def means_any_tumor(name: str) -> bool:
    """Whether ``name`` looks like that of tumours of unknown type. Nothing is mapped for that: it is a hint only."""
    words = _words(name)
    speaks_of_tumor = bool(set(words) & _TUMOR_WORDS) or any(re.match(r"tumou?r|tumeur|tumo$", word) for word in words)
    return speaks_of_tumor and not says_none(name) and nearest_class(name) is None


def _unknown(name: str, source: str) -> DataError:
    if means_any_tumor(name):
        remedy = f"if it means a tumour of unknown type, say --any-tumor {shlex.quote(name)}"
        return DataError(f"unknown class {name!r}", file=Path(source), remedy=remedy)
    guess = nearest_class(name)
    proposal = f"did you mean {guess}? Say " if guess else "say "
    key = f"data.class_map.{name}" if re.fullmatch(r"[\w-]+", name) else f"'data.class_map.{name}'"
    remedy = f"{proposal}--set {key}={guess or 'CLASS'}, or ={name} to keep it as a class of its own"
    return DataError(f"unknown class {name!r}", file=Path(source), remedy=remedy)


def _check_spellings(own: Mapping[str, str], names: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for name, found in own.items():
        other = first.setdefault(re.sub(r"[\W_]", "", found.casefold()), found)
        if other != found:
            remedy = f"say which one with --set 'data.class_map.{name}={other}'"
            raise DataError(f"one class spelt {other!r} and {found!r}", file=Path(names[name]), remedy=remedy)


def with_canonical_names(sample: Sample) -> Sample:
    """``sample`` with every known spelling of a class replaced by the canonical name."""
    labels = tuple(canonical_class(name) or name for name in sample.box_labels)
    label = sample.label and (canonical_class(sample.label) or sample.label)
    return replace(sample, label=label, box_labels=labels)


__all__ = [
    "foreign_names",
    "known_names",
    "map_names",
    "means_any_tumor",
    "nearest_class",
    "says_none",
    "uses_canonical_classes",
    "with_canonical_names",
]
