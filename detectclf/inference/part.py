"""One part of a sharded prediction, from the names in its plan to its files; what every engine runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectclf.inference.containers import Container
from detectclf.inference.items import Item, items_alone
from detectclf.inference.predictor import Predictor
from detectclf.inference.shards import names_of, part_name, write_part
from detectclf.inference.sources import ImageSource
from detectclf.inference.volumes import Volume
from detectclf.prediction import Prediction
from detectclf.storage import StoredFolder


def predict_part(
    predictor: Predictor, folder: StoredFolder, number: int, frame: int | None, axis: str | None
) -> dict[str, Any]:
    """Predicts a part and writes it; returns what :func:`detectclf.inference.shards.write_part` does.

    Args:
        predictor: of the run's model.
        folder: the output, which has the plan.
        number: of the part.
        frame, axis: as ``--frame`` and ``--axis``.

    Raises:
        StorageError: a store refuses or does not answer; nothing is written of the part then.
    """
    names = names_of(folder, number)
    records: list[dict[str, Any]] = []
    studies: list[dict[str, Any]] = []

    def add(prediction: Prediction) -> None:
        records.append(prediction.to_record())

    waiting: list[Item] = []
    for item in (item for name in names for item in items_alone(name, frame, axis)):
        if not isinstance(item, Volume):
            waiting.append(item)
            continue
        for prediction in predictor.predict_many(_pictures(waiting)):
            add(prediction)
        waiting = []
        studies.append(predictor.study_of(item, each=add).to_record(f"records/{part_name(number)}.jsonl"))
    for prediction in predictor.predict_many(_pictures(waiting)):
        add(prediction)
    return write_part(folder, number, records, studies, predictor.names.classes, len(names))


def _pictures(items: list[Item]) -> Iterator[ImageSource]:
    for item in items:
        if isinstance(item, Container):
            yield from item
        elif not isinstance(item, Volume):
            yield item


__all__ = ["predict_part"]
