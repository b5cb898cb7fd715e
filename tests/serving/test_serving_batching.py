"""The queue before the model: batches across requests, turns, cancelling, poison, and its end. The model is real."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from serving_examples import png

from detectclf.errors import DataError
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import Encoded
from detectclf.prediction import Prediction
from detectclf.serving.batching import Batcher, QueueFullError, Upload
from detectclf.serving.metrics import Metrics

PICTURE = png()


class Gate:
    """The real model behind a gate, which tells what came through it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.open = predictor, threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, sources: Sequence[Encoded]) -> Iterator[Prediction]:
        self.batches.append([source.name for source in sources])
        self.open.wait(60)
        if any(source.name == "poison" for source in sources):
            raise RuntimeError("a fault of ours")
        yield from self.predictor.predict_many(sources)

    def begun(self, batches: int) -> None:
        """Waits until this many batches have come."""
        end = time.monotonic() + 60
        while len(self.batches) < batches and time.monotonic() < end:
            time.sleep(0.005)
        assert len(self.batches) >= batches


@pytest.fixture
def gate(predictor: Predictor) -> Gate:
    return Gate(predictor)


@pytest.fixture
def batcher(gate: Gate) -> Iterator[Batcher]:
    batcher = Batcher(gate, batch_size=4, max_waiting=6, max_bytes=10**6, metrics=Metrics())
    yield batcher
    gate.open.set()
    batcher.close()


def picture(name: str) -> Upload:
    return Upload(name, len(PICTURE), lambda: PICTURE)


def record(prediction: Prediction) -> dict[str, Any]:
    return prediction.to_record()


def submit(batcher: Batcher, *names: str) -> Any:
    return batcher.submit([picture(name) for name in names], record)


def test_requests_share_batches_in_turns(batcher: Batcher, gate: Gate) -> None:
    first = submit(batcher, "0")
    gate.begun(1)
    many, one = submit(batcher, "a1", "a2", "a3", "a4"), submit(batcher, "b1")
    assert batcher.waiting == 5
    gate.open.set()
    for job in (first, many, one):
        assert all(answer.result(60)["error"] is None for answer in job.answers)
    assert gate.batches == [["0"], ["a1", "b1", "a2", "a3"], ["a4"]], "one picture does not wait for many"
    assert [answer.result()["image"] for answer in many.answers] == ["a1", "a2", "a3", "a4"]
    assert batcher.waiting == 0


FULL: list[tuple[Callable[[], list[Upload]], str]] = [
    (lambda: [picture("x")] * 7, "too many pictures"),
    (lambda: [Upload("x", 10**6 + 1, lambda: b"")], "too many bytes"),
]


@pytest.mark.parametrize(("uploads", "why"), FULL, ids=[why for _, why in FULL])
def test_a_full_queue_takes_nothing_of_a_request(
    batcher: Batcher, gate: Gate, uploads: Callable[[], list[Upload]], why: str
) -> None:
    with pytest.raises(QueueFullError) as full:
        batcher.submit(uploads(), record)
    assert full.value.seconds >= 1 and batcher.waiting == 0
    gate.open.set()
    assert submit(batcher, "next").answers[0].result(60)["class"]


def test_cancelled_pictures_are_not_predicted(batcher: Batcher, gate: Gate) -> None:
    begun = submit(batcher, "begun")
    gate.begun(1)
    waiting, other = submit(batcher, "w1", "w2"), submit(batcher, "other")
    for job in (begun, waiting):
        job.cancel()
    assert batcher.waiting == 1 and all(answer.cancelled() for answer in waiting.answers)
    gate.open.set()
    assert other.answers[0].result(60)["error"] is None
    assert gate.batches == [["begun"], ["other"]]


def test_a_fault_costs_only_the_picture_that_has_it(batcher: Batcher, gate: Gate) -> None:
    submit(batcher, "0")
    gate.begun(1)
    bad, good = submit(batcher, "poison"), submit(batcher, "good")
    gate.open.set()
    assert good.answers[0].result(60)["error"] is None
    with pytest.raises(RuntimeError):
        bad.answers[0].result(60)
    assert batcher.alive


def test_an_upload_that_cannot_be_read_gives_a_record(batcher: Batcher, gate: Gate) -> None:
    gate.open.set()

    def fail(reason: str) -> bytes:
        raise DataError(reason, file="z.zip")

    uploads = [Upload("z.zip", 0, partial(fail, "is damaged")), Upload("y.zip", 0, lambda: 1 // 0)]
    errors = [answer.result(60)["error"] for answer in batcher.submit(uploads, record).answers]
    assert errors == ["z.zip: is damaged", "y.zip: cannot be read (ZeroDivisionError); check the file"]
    assert batcher.alive


def test_what_waits_is_answered_before_the_end(predictor: Predictor) -> None:
    gate = Gate(predictor)
    batcher = Batcher(gate, batch_size=2, max_waiting=9, max_bytes=10**6, metrics=Metrics())
    jobs = [submit(batcher, "a", "b", "c"), submit(batcher, "d")]
    gate.open.set()
    batcher.close()
    assert all(answer.done() and answer.result()["error"] is None for job in jobs for answer in job.answers)
    assert not batcher.alive
    with pytest.raises(QueueFullError):
        submit(batcher, "late")
