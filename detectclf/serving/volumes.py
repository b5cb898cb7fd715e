"""The route for volumes: NIfTI files and DICOM series, each with its study record.

Volumes are read slice by slice from files, so what was uploaded lies in a temporary folder until the answer is made.
One request is worked on at a time: a volume keeps the model busy for seconds, and pictures of other requests go on
beside it.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from detectclf.errors import DetectclfError
from detectclf.inference.volumes import Volume, inputs_of
from detectclf.prediction import Prediction
from detectclf.serving.api import FILES_BODY, Record, problems
from detectclf.serving.batching import Upload
from detectclf.serving.problems import ProblemError, busy
from detectclf.serving.service import Service, TheService, disconnected

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
    records: list[Record] = Field(description="Of all slices, which name their `study` and `frame`.")


class _Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Nobody waits for the answer any more."""


@router.post(
    "/v1/volumes",
    response_model=Studies,
    openapi_extra=FILES_BODY,
    tags=["predict"],
    responses=problems(
        s400="No file, or no multipart.",
        s401="The token is missing or wrong.",
        s408="The request came too slowly.",
        s413="Too many or too large files.",
        s422="There is no volume among the files.",
        s429="Another volume is being worked on; see Retry-After.",
        s503="It took too long, or the server stops.",
    ),
)
async def volumes(request: Request, service: TheService) -> Any:
    """Classifies volumes: a study record for each, and the records of their slices.

    Send NIfTI files, the DICOM files of one or several series, or zip archives of such, in fields called `files`.
    """
    uploads = await service.intake.uploads(request)
    if service.volumes.locked():
        raise busy("volumes_busy", "another volume is being worked on; try again", _RETRY_AFTER)
    async with service.volumes:
        stop = threading.Event()
        work = asyncio.ensure_future(run_in_threadpool(_answer, service, uploads, stop))
        gone = asyncio.ensure_future(disconnected(request))
        first: set[asyncio.Future[Any]] = {work, gone}
        try:
            await asyncio.wait(first, timeout=service.config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return JSONResponse(work.result())
            raise service.late() if not gone.done() else ProblemError(400, "gone", "the client has gone")
        finally:
            stop.set()
            gone.cancel()
            with suppress(_Stopped, ProblemError):
                await work  # the next request finds neither its thread nor its folder


def _answer(service: Service, uploads: Sequence[Upload], stop: threading.Event) -> dict[str, Any]:
    """The content of :class:`Studies`; raises ProblemError where there is no volume, or too much on disk."""
    with tempfile.TemporaryDirectory(prefix="detectclf-") as folder:
        files = _all_written(Path(folder), uploads, service.config.max_unpacked_bytes, stop)
        found = [each for each in inputs_of([file for file in files if file is not None]) if isinstance(each, Volume)]
        if not found:
            detail = "no volume among the files; send a NIfTI file or two or more slices of a DICOM series"
            raise ProblemError(422, "no_volume", detail)
        names = {str(file): upload.name for file, upload in zip(files, uploads, strict=True) if file is not None}
        records: list[dict[str, Any]] = []

        def take(prediction: Prediction) -> None:
            if stop.is_set():
                raise _Stopped
            records.append(_named(prediction.to_record(), folder, names))

        studies = [_named(service.predictor.study_of(volume, each=take).to_record(), folder, names) for volume in found]
    return {"studies": studies, "records": records}


def _all_written(folder: Path, uploads: Sequence[Upload], most_bytes: int, stop: threading.Event) -> list[Path | None]:
    """:func:`_written` of each; archives have a limit each, so that together they could fill the disk."""
    files: list[Path | None] = []
    written = 0
    for number, upload in enumerate(uploads):
        if stop.is_set():
            raise _Stopped
        file = _written(folder, number, upload)
        files.append(file)
        written += 0 if file is None else file.stat().st_size
        if written > most_bytes:
            detail = f"the files unpack to more than {most_bytes} bytes together; send fewer in a request"
            raise ProblemError(413, "too_large_unpacked", detail)
    return files


def _written(folder: Path, number: int, upload: Upload) -> Path | None:
    """The upload as a file under a plain name; ``None`` for one that cannot be unpacked."""
    try:
        content = upload.read()
    except DetectclfError:
        return None
    # NIfTI volumes are named after their file, so the name is kept as far as it is plain.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", upload.name.rpartition("/")[2])[-100:].lstrip(".") or "upload"
    file = folder / f"{number:05d}" / name
    file.parent.mkdir()
    file.write_bytes(content)
    return file


def _named(record: dict[str, Any], folder: str, names: dict[str, str]) -> dict[str, Any]:
    """``record`` with the names of uploads in place of those of their temporary files."""
    if "image" in record:
        record["image"] = names.get(str(record["image"]), record["image"])
    if record.get("error"):
        record["error"] = re.sub(re.escape(folder) + r"[/\\]+\d{5}[/\\]", "", record["error"]).replace(folder, "upload")
    return record


__all__ = ["Studies", "StudyRecord", "router"]
