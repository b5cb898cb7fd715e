"""The route for volumes: NIfTI files and DICOM series, each with its study record.

One request is worked on at a time: a volume keeps the model busy for seconds, and pictures of other requests go on
beside it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from detectclf.serving.api import FILES_BODY, UPLOAD_PROBLEMS, Record, problems
from detectclf.serving.batching import Upload
from detectclf.serving.problems import ProblemError, busy
from detectclf.serving.service import Service, TheService
from detectclf.serving.volume_work import Ended, Predicted, worked_on

router = APIRouter()

_RETRY_AFTER = 10


class StudyRecord(BaseModel):
    """The record of a volume, as in `studies.jsonl`; with `error`, all fields but `study` and `slices` are null."""

    model_config = ConfigDict(extra="allow")

    study: str = Field(description="The stem of a NIfTI file, or series-N.")
    slices: int
    class_: str | None = Field(alias="class")
    confidence: float | None
    probabilities: dict[str, float] | None
    findings: list[dict[str, Any]] | None = Field(description="Boxes joined across slices, best score first.")
    flags: list[str] | None = Field(description="Reasons for a human look.")
    error: str | None


class Studies(BaseModel):
    """What was found in the uploaded volumes."""

    studies: list[StudyRecord]
    records: list[Record] = Field(description="Of all slices, which name their `study` and `frame`, and of pictures.")


class _Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Nobody waits for the answer any more."""


@router.post(
    "/v1/volumes",
    response_model=Studies,
    openapi_extra=FILES_BODY,
    tags=["predict"],
    responses=UPLOAD_PROBLEMS | problems(s422="There is no volume among the files; `records` says what they are."),
)
async def volumes(request: Request, service: TheService) -> Any:
    """Classifies volumes: a study record for each, and the records of their slices.

    Send NIfTI files, the DICOM files of one or several series, or zip archives of such, in fields called `files`. What
    is no part of a volume is predicted as a picture, and has its record as well.
    """
    uploads = await service.intake.uploads(request, service.config.max_slices)
    if service.volumes.locked():
        raise busy("volumes_busy", "another volume is being worked on; try again", _RETRY_AFTER)
    async with service.volumes:
        stop = threading.Event()
        work = asyncio.ensure_future(run_in_threadpool(_answer, service, uploads, stop))
        try:
            return JSONResponse(await service.in_time(request, work))
        finally:
            stop.set()
            with suppress(_Stopped, ProblemError):
                await work  # the next request finds neither its thread nor its folder


def _answer(service: Service, uploads: Sequence[Upload], stop: threading.Event) -> dict[str, Any]:
    """The content of :class:`Studies`; raises ProblemError where there is no volume, or too much on disk."""
    studies: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    steps = worked_on(service.predictor, uploads, service.config.max_unpacked_bytes, partial(_check, stop))
    for step in steps:
        _check(stop)
        if isinstance(step, Predicted):
            records.append(step.record)
        elif isinstance(step, Ended):
            studies.append(step.record)
    if not studies:
        detail = "no volume among the files; send a NIfTI file or two or more slices of a DICOM series"
        raise ProblemError(422, "no_volume", detail, records=records)
    return {"studies": studies, "records": records}


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped


__all__ = ["Studies", "StudyRecord", "router"]
