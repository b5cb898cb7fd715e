"""What all routes share: the model with its queue, what is being received, figures and settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from detectclf.config import ServeConfig
from detectclf.errors import DetectclfError
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import Encoded
from detectclf.prediction import Prediction
from detectclf.serving.batching import Answer, Batcher, Job, QueueFullError, Upload
from detectclf.serving.metrics import Metrics
from detectclf.serving.problems import ProblemError, busy
from detectclf.serving.uploads import Intake

Result = TypeVar("Result")

_PROMPT = 0.1
"""Share of the time for an answer in which the first picture of a request has its turn."""


@dataclass(slots=True, eq=False)
class Service:
    """The model and the limits of one server.

    Attributes:
        predictor: the model.
        config: the settings.
        batcher: the queue before the model.
        intake: what is being received.
        metrics: figures.
        draining: whether the server finishes its work and takes no more.
        volumes: held by the request whose volumes are received or worked on.
        explaining: held by the request whose picture is explained.
        in_hand: requests with files that are received or worked on.
    """

    predictor: Predictor
    config: ServeConfig
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    batcher: Batcher = field(init=False)
    intake: Intake = field(init=False)
    volumes: asyncio.Lock = field(default_factory=asyncio.Lock)
    explaining: asyncio.Lock = field(default_factory=asyncio.Lock)
    in_hand: int = 0

    def __post_init__(self) -> None:
        self.batcher = Batcher(
            lambda sources: _predictions(self.predictor, sources),
            batch_size=self.predictor.config.batch_size,
            max_waiting=self.config.max_waiting,
            max_bytes=self.config.max_memory_bytes,
            metrics=self.metrics,
        )
        self.intake = Intake(self.config)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests with files, from the head of one to the end of its answer.

        They are few, and fewer on a slow machine, so that whoever has one is answered soon, and whoever has none hears
        so before the body is read: a queue of a thousand answers each of them, after minutes, when the clients have
        given up.

        Raises:
            ProblemError: there is none (429, with Retry-After).
        """
        # Pictures are taken from one request after the other, so the first one waits for a picture of each.
        prompt = int(_PROMPT * self.config.timeout / self.batcher.seconds_per_picture)
        if self.in_hand >= min(self.config.max_uploads, max(1, prompt)):
            seconds = self.batcher.retry_after
            raise busy("too_many_uploads", f"many requests are worked on; try again in {seconds} s", seconds)
        self.in_hand += 1
        try:
            yield
        finally:
            self.in_hand -= 1

    def submit(self, uploads: Sequence[Upload], finish: Callable[[Prediction], Answer]) -> Job:
        """Puts pictures in the queue; raises ProblemError (429, with Retry-After) where it is full."""
        try:
            return self.batcher.submit(uploads, finish)
        except QueueFullError as error:
            detail = f"the queue is full; try again in {error.seconds} s"
            raise busy("queue_full", detail, error.seconds) from error

    async def all_answers(self, request: Request, job: Job) -> list[Answer]:
        """All answers of a job. Where the client leaves or time is up, pictures that still wait are dropped.

        Raises:
            ProblemError: time is up, or the client has gone.
        """
        answers = asyncio.ensure_future(_in_order([asyncio.wrap_future(each) for each in job.answers]))
        try:
            return await self.in_time(request, answers)
        finally:
            answers.cancel()
            job.cancel()

    async def in_time(self, request: Request, work: asyncio.Future[Result]) -> Result:
        """The result of ``work``, unless the client leaves or time is up before; ``work`` goes on then.

        Raises:
            ProblemError: time is up, or the client has gone.
        """
        gone = asyncio.ensure_future(_disconnected(request))
        first: set[asyncio.Future[Any]] = {work, gone}
        try:
            await asyncio.wait(first, timeout=self.config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise self.late() if not gone.done() else ProblemError(400, "gone", "the client has gone")
        finally:
            gone.cancel()

    async def each_answer(self, job: Job) -> AsyncIterator[Answer]:
        """The answers of a job, in order, as they are made; the rest is dropped where nobody takes them any more.

        Raises:
            ProblemError: time is up.
        """
        end = asyncio.get_running_loop().time() + self.config.timeout
        try:
            for answer in job.answers:
                left = end - asyncio.get_running_loop().time()
                try:
                    yield await asyncio.wait_for(asyncio.wrap_future(answer), max(left, 0.001))
                except asyncio.TimeoutError:
                    raise self.late() from None
        finally:
            job.cancel()

    def late(self) -> ProblemError:
        """The problem of a request that took too long."""
        detail = f"not finished within {self.config.timeout:g} s; send fewer pictures at once"
        return ProblemError(503, "timed_out", detail, headers={"Retry-After": "5"})


def _predictions(predictor: Predictor, sources: Sequence[Encoded]) -> Iterable[Prediction]:
    if len(sources) > 1:
        return predictor.predict_many(sources, batch_size=len(sources))
    # One alone is decoded here, since threads made for it would take a fifth of the time.
    (source,) = sources
    try:
        return [predictor.predict(source)]
    except DetectclfError as error:
        return [Prediction(source.name, error=str(error), error_exit=error.exit_code)]


async def _in_order(answers: Sequence[asyncio.Future[Answer]]) -> list[Answer]:
    # Not asyncio.gather, which logs a traceback where nobody takes its result after it was cancelled.
    try:
        return [await each for each in answers]
    finally:
        for each in answers:
            if not each.cancel() and not each.cancelled():
                each.exception()  # looked at, or asyncio logs it, perhaps with the name of a file


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(_service_of)]
"""Parameter of a route: the :class:`Service` of its application."""

__all__ = ["Service", "TheService"]
