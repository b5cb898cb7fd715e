"""The records of a ``predict`` that had come to its end, in the order in which it gave them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from detectclf.documents import read_json
from detectclf.errors import DataError
from detectclf.inference.journal import records_in
from detectclf.inference.records import FORMATS, STUDIES_FILE

log = logging.getLogger(__name__)

_LIMIT_BYTES = 2**31


def written_records(out: Path, format: str) -> Iterator[dict[str, Any]]:
    """Every record in ``out``, that of a study after those of its slices.

    A volume that was refused as a whole comes before the study that follows it. Tables do not hold records as they
    were made: then there is none, and a warning says so.

    Raises:
        DataError: the files cannot be read.
    """
    file = out / FORMATS[format].file
    if file.suffix == ".jsonl":
        records: Iterator[dict[str, Any]] = records_in(file)
    elif format == "json":
        try:
            records = iter(read_json(file, limit_bytes=_LIMIT_BYTES))
        except ValueError as error:
            raise DataError("is damaged", file=file, remedy="predict into another --out") from error
    else:
        log.warning("%s: %s does not hold records in full, so none is given again", file, format)
        return
    studies = list(records_in(out / STUDIES_FILE))
    for name, slices in groupby(records, key=lambda record: record.get("study")):
        while name is not None and studies and studies[0]["study"] != name:
            yield studies.pop(0)
        yield from slices
        if name is not None and studies:
            yield studies.pop(0)
    yield from studies


__all__ = ["written_records"]
