"""Micro-batches across requests: one thread takes pictures of all requests in turns and predicts them together.

While the model computes a batch, the pictures of other requests gather, so that batches grow with the load and a single
picture never waits for others.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from detectclf.errors import DataError, DetectclfError
from detectclf.inference.sources import Encoded
from detectclf.prediction import Prediction
from detectclf.serving.metrics import Metrics

log = logging.getLogger(__name__)

Answer: TypeAlias = dict[str, Any]
"""What is kept of a prediction, without its pixels."""

PredictMany: TypeAlias = Callable[[Sequence[Encoded]], Iterable[Prediction]]

_LONGEST_WAIT = 60


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A picture to predict.

    Attributes:
        name: what its record calls it.
        size: bytes that it holds in memory while it waits.
        read: gives its content; raises a typed error where it has none.
        folder: where the client, or an archive, had it, which tells series apart and is not shown; empty for none.
    """

    name: str
    size: int
    read: Callable[[], bytes]
    folder: str = ""


class QueueFullError(Exception):
    """There is no room for the pictures of a request; ``seconds`` says when there may be."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"try again in {seconds} s")
        self.seconds = seconds


@dataclass(slots=True, eq=False)
class _Waiting:
    upload: Upload
    answer: Future[Answer]
    finish: Callable[[Prediction], Answer]


@dataclass(slots=True, eq=False)
class Job:
    """The pictures of one request.

    Attributes:
        answers: a future for each picture, in order.
        cancel: takes the pictures that still wait out of the queue.
    """

    answers: tuple[Future[Answer], ...]
    cancel: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Load:
    """How much waits, and how long a picture takes of late."""

    pictures: int = 0
    held_bytes: int = 0
    seconds_per_picture: float = field(default=0.1)

    def add(self, waiting: Iterable[_Waiting], sign: int = 1) -> None:
        for each in waiting:
            self.pictures += sign
            self.held_bytes += sign * each.upload.size

    def retry_after(self) -> int:
        return max(1, min(_LONGEST_WAIT, math.ceil(self.pictures * self.seconds_per_picture / 2)))


class Batcher:
    """The queue before the model, and the thread that empties it.

    Args:
        predict_many: predicts a batch, in order; a picture that cannot be read gives a prediction with ``error`` set.
        batch_size: most pictures of a batch.
        max_waiting, max_bytes: most pictures that may wait, and most bytes that they may hold.
        metrics: counts pictures and batches.
    """

    def __init__(
        self, predict_many: PredictMany, *, batch_size: int, max_waiting: int, max_bytes: int, metrics: Metrics
    ) -> None:
        self._predict_many, self._batch_size = predict_many, batch_size
        self._max_waiting, self._max_bytes, self._metrics = max_waiting, max_bytes, metrics
        self._jobs: deque[deque[_Waiting]] = deque()
        self._load, self._closed = _Load(), False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="detectclf-batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return self._load.pictures

    @property
    def alive(self) -> bool:
        """Whether pictures are being worked on."""
        return self._thread.is_alive() and not self._closed

    @property
    def seconds_per_picture(self) -> float:
        """How long a picture takes of late."""
        return self._load.seconds_per_picture

    @property
    def retry_after(self) -> int:
        """Seconds until about half of what waits is done."""
        return self._load.retry_after()

    def submit(self, uploads: Sequence[Upload], finish: Callable[[Prediction], Answer]) -> Job:
        """Puts the pictures of a request in the queue, all or none.

        Args:
            uploads: the pictures.
            finish: makes the answer of a prediction, in the thread of the model; its pixels are dropped after.

        Raises:
            QueueFullError: there is no room for them.
        """
        queue = deque(_Waiting(upload, Future(), finish) for upload in uploads)
        job = Job(tuple(each.answer for each in queue), lambda: self._drop(queue))
        with self._changed:
            pictures = self._load.pictures + len(queue)
            held_bytes = self._load.held_bytes + sum(each.size for each in uploads)
            if self._closed or pictures > self._max_waiting or held_bytes > self._max_bytes:
                raise QueueFullError(self._load.retry_after())
            self._load.add(queue)
            if queue:
                self._jobs.append(queue)
            self._changed.notify()
        return job

    def close(self) -> None:
        """Predicts what waits, then ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _drop(self, queue: deque[_Waiting]) -> None:
        with self._changed:
            if queue in self._jobs:
                self._jobs.remove(queue)
            dropped = list(queue)
            self._load.add(dropped, -1)
            queue.clear()
        for each in dropped:
            each.answer.cancel()
        if dropped:
            self._metrics.cancelled(len(dropped))

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.perf_counter()
            outcomes = self._predict(batch)
            seconds = time.perf_counter() - started
            self._metrics.batch(outcomes, seconds)
            self._load.seconds_per_picture += 0.2 * (seconds / len(batch) - self._load.seconds_per_picture)

    def _next_batch(self) -> list[_Waiting]:
        """The next pictures, one of each request in turn; empty once the queue is closed and empty."""
        batch: list[_Waiting] = []
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            while self._jobs and len(batch) < self._batch_size:
                queue = self._jobs.popleft()
                batch.append(queue.popleft())
                if queue:
                    self._jobs.append(queue)
            self._load.add(batch, -1)
        return batch

    def _predict(self, batch: Sequence[_Waiting]) -> Counter[str]:
        """Answers a batch; outcome -> number of pictures."""
        sources = [_content(each.upload) for each in batch]
        try:
            made = list(self._predict_many(sources))
        except Exception as error:
            if len(batch) > 1:  # whatever it is, it must not cost the pictures of other requests
                return sum((self._predict([each]) for each in batch), Counter[str]())
            log.error("internal error in a batch: %s", type(error).__name__)
            log.debug("traceback", exc_info=True)
            _settle(batch[0].answer, error)
            return Counter(unreadable=1)
        for each, prediction in zip(batch, made, strict=True):
            try:
                _settle(each.answer, each.finish(prediction))
            except Exception as error:
                _settle(each.answer, error)
        return Counter(_outcome(prediction) for prediction in made)


def _content(upload: Upload) -> Encoded:
    try:
        return Encoded(upload.name, upload.read())
    except DetectclfError as error:
        return Encoded(upload.name, error)
    except Exception as error:  # whatever it is, the thread goes on
        reason = f"cannot be read ({type(error).__name__})"
        return Encoded(upload.name, DataError(reason, file=upload.name, remedy="check the file"))


def _outcome(prediction: Prediction) -> str:
    if prediction.error is not None:
        return "unreadable"
    return "flagged" if prediction.flags else "predicted"


def _settle(answer: Future[Answer], result: Answer | Exception) -> None:
    if not answer.set_running_or_notify_cancel():
        return  # the request was cancelled while its picture was in a batch
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


__all__ = ["Answer", "Batcher", "Job", "QueueFullError", "Upload"]
