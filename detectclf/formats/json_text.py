"""Reads untrusted JSON: within limits, with repeated keys reported, and with the line of each object.

Whatever stands under a key that speaks of a patient becomes a pseudonym as it is read, so that no fault can quote it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from detectclf.errors import DataError, UnsafeError
from detectclf.files import read_bytes
from detectclf.formats.faults import Faults
from detectclf.pseudonyms import pseudonym

LIMIT_BYTES = 256 * 2**20
"""Largest annotation file, bytes: a COCO export of about 500,000 slices."""
_LIMIT_ITEMS = 16_000_000
"""Most values in one file. Python needs up to 72 bytes for each, so 16 million stay well under 2 GiB."""
_LINES_BYTES = 16 * 2**20
"""Largest file whose lines are counted, bytes: that takes up to two seconds."""
_REMEDY = "export the data set again"
_PATIENT = "patient"
# A letter may also be written as an escape.
_MAY_NAME_PATIENTS = re.compile(rb"patient|\\u00[4-7]", re.IGNORECASE)
# Braces inside strings do not count; a backslash escapes the next character.
_TOKEN = re.compile(r'\\.|["{}\n]')


class Record(dict[str, Any]):
    """An object of a JSON file.

    Attributes:
        line: the line in which it starts, from 1; ``None`` if lines were not counted.
    """

    __slots__ = ("line",)  # a __dict__ would make millions of small objects four times as large
    line: int | None


def read_json(path: Path, faults: Faults, root: Path) -> Any:
    """Reads a JSON file; its objects become :class:`Record`.

    ``NaN`` and ``1e999`` become floats, which the checks of boxes report.

    Args:
        path: the file.
        faults: receives ``duplicate_key`` for objects that have a key twice.
        root: folder in which the file must lie, with symlinks followed.

    Raises:
        DataError: the file is not JSON, is nested too deeply, or has a number with thousands of digits.
        ConfigError: it names patients and there is no key for pseudonyms, see :mod:`detectclf.pseudonyms`.
        UnsafeError: it is larger than :data:`LIMIT_BYTES`, or has so many values that they would fill the memory.
    """
    data = read_bytes(path, limit_bytes=LIMIT_BYTES, root=root)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _LIMIT_ITEMS:
        raise UnsafeError(f"holds more than {_LIMIT_ITEMS} values", file=path, remedy="split the data set")
    repeated: dict[str, None] = {}
    lines: Iterator[int | None] = repeat(None)
    personal = _MAY_NAME_PATIENTS.search(data) is not None

    def as_record(pairs: list[tuple[str, Any]]) -> Record:
        result = Record(pairs)
        if personal:
            _hide_patients(result)
        result.line = next(lines, None)
        if len(result) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated.update(dict.fromkeys(key for key, count in counts.items() if count > 1))
        return result

    try:
        text = data.decode("utf-8-sig")
        if len(data) <= _LINES_BYTES:
            lines = _lines_of_objects(text) if "\n" in text else repeat(1)
        content = json.loads(text, object_pairs_hook=as_record)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON ({error.msg})", file=path, line=error.lineno, remedy=_REMEDY) from None
    except UnicodeDecodeError:
        raise DataError("not JSON (not UTF-8 text)", file=path, remedy=_REMEDY) from None
    except RecursionError:
        raise DataError("JSON nested too deeply", file=path, remedy=_REMEDY) from None
    except ValueError:
        raise DataError("a number with thousands of digits", file=path, remedy=_REMEDY) from None
    for key in repeated:
        faults.error("duplicate_key", path, f"an object has the key {key[:80]!r} twice; the last value is used")
    return content


def _hide_patients(record: Record) -> None:
    """Replaces what stands under each key with the word patient: an id by its pseudonym, anything else by nothing."""
    for key, value in record.items():
        if _PATIENT not in key.casefold() or value is None:
            continue
        whole = isinstance(value, int) and not isinstance(value, bool)
        record[key] = pseudonym(str(value)) if isinstance(value, str) or whole else {}


def _lines_of_objects(text: str) -> Iterator[int | None]:
    """The line in which each object of valid JSON starts, ordered by where the objects end, as a parser meets them."""
    line, in_string, open_objects = 1, False, []
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token == '"':
            in_string = not in_string
        elif token == "\n":
            line += 1
        elif token == "{" and not in_string:
            open_objects.append(line)
        elif token == "}" and not in_string:
            yield open_objects.pop()


def records_of(content: Any, key: str, path: Path, faults: Faults) -> list[Record]:
    """The objects in the list ``content[key]``; other values are left out as ``bad_record``.

    Raises:
        DataError: ``content`` is not an object, or has no such list.
    """
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, list):
        raise DataError(f"has no list {key!r}", file=path, remedy=_REMEDY)
    return objects_in(value, key, path, faults)


def objects_in(values: list[Any], what: str, path: Path, faults: Faults) -> list[Record]:
    """The objects among ``values``; other values are left out as ``bad_record``.

    In the place of an image anything may stand, a name of a patient too: it is not logged.
    """
    for index, value in enumerate(values):
        if not isinstance(value, Record):
            stated = f"a {type(value).__name__}" if what == "images" else value
            faults.reject("bad_record", path, f"{what}[{index}] is not an object", stated)
    return [value for value in values if isinstance(value, Record)]


__all__ = ["LIMIT_BYTES", "Record", "objects_in", "read_json", "records_of"]
