"""One part of a sharded prediction, from the names in its plan to its files; what every engine runs."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import replace
from typing import Any

from detectclf.errors import DataError, DetectclfError
from detectclf.inference.items import Unit, units_alone
from detectclf.inference.plans import names_of, part_name
from detectclf.inference.predictor import Predictor
from detectclf.inference.shards import attempts_of, note_attempts, write_part
from detectclf.inference.sources import Encoded, ImageSource, name_of
from detectclf.inference.trial import fatal_units
from detectclf.inference.volumes import Volume
from detectclf.prediction import Prediction
from detectclf.storage import StoredFolder, shown

_MOST_ATTEMPTS = 10


def predict_part(
    predictor: Predictor, folder: StoredFolder, number: int, frame: int | None, axis: str | None
) -> dict[str, Any]:
    """Predicts a part and writes it; returns what :func:`detectclf.inference.shards.write_part` does.

    Where the process of an earlier attempt ended without a word, other processes first find the pictures that end the
    process that reads them (:mod:`detectclf.inference.trial`), which get records with an error.

    Args:
        predictor: of the run's model.
        folder: the output, which has the plan.
        number: of the part.
        frame, axis: as ``--frame`` and ``--axis``.

    Raises:
        StorageError: a store refuses or does not answer; nothing is written of the part then.
        DataError: the processes of ten attempts ended, and no picture does that by itself.
    """
    names, attempts = names_of(folder, number), attempts_of(folder, number)
    if attempts >= _MOST_ATTEMPTS:
        note_attempts(folder, number, 0)  # so that --resume may try again
        raise DataError(
            f"its worker ended {attempts} times, and no picture in it does that alone",
            file=shown(folder.path(f"plan/{part_name(number)}.jsonl")),
            remedy="give workers more memory or a smaller --batch-size, then go on with --resume",
        )
    note_attempts(folder, number, attempts + 1)
    try:
        fatal = fatal_units(names, frame, axis) if attempts else set()
        records, studies = _predicted(predictor, _without(units_alone(names, frame, axis), fatal), number)
        done = write_part(folder, number, records, studies, predictor.names.classes, len(names))
    except BaseException:
        with suppress(DetectclfError):
            note_attempts(folder, number, 0)  # this process goes on
        raise
    note_attempts(folder, number, 0)
    return done


def _predicted(
    predictor: Predictor, units: Iterator[Unit], number: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of pictures and slices, and those of volumes."""
    records: list[dict[str, Any]] = []
    studies: list[dict[str, Any]] = []
    volumes: list[Volume] = []

    def add(prediction: Prediction) -> None:
        records.append(prediction.to_record())

    def pictures() -> Iterator[ImageSource]:
        """Those before the next volume."""
        for unit in units:
            if isinstance(unit, Volume):
                volumes.append(unit)
                return
            yield unit

    while True:
        for prediction in predictor.predict_many(pictures()):
            add(prediction)
        if not volumes:
            return records, studies
        study = predictor.study_of(volumes.pop(), each=add)
        studies.append(study.to_record(f"records/{part_name(number)}.jsonl"))


def _without(units: Iterator[Unit], fatal: Set[int]) -> Iterator[Unit]:
    """The units with an error in the place of each that is fatal."""
    for number, unit in enumerate(units):
        if number not in fatal:
            yield unit
            continue
        name = unit.name if isinstance(unit, Volume) else name_of(unit)
        error = DataError(
            "three processes that read it ended without a word", file=name, remedy="make it again, or leave it out"
        )
        yield replace(unit, error=error) if isinstance(unit, Volume) else Encoded(name, error)


__all__ = ["predict_part"]
