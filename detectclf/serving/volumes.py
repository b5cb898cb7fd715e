"""The route for volumes: NIfTI files and DICOM series, each with its study record.

Volumes are read slice by slice from files, so what was uploaded lies in a temporary folder until the answer is made.
One request is worked on at a time: a volume keeps the model busy for seconds, and pictures of other requests go on
beside it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from detectclf.errors import DetectclfError
from detectclf.inference.volumes import Volume, inputs_of
from detectclf.leftovers import scratch_folder
from detectclf.prediction import Prediction
from detectclf.serving.api import FILES_BODY, UPLOAD_PROBLEMS, Record, problems
from detectclf.serving.batching import Upload
from detectclf.serving.problems import ProblemError, busy
from detectclf.serving.service import Service, TheService

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
    uploads = await service.intake.uploads(request)
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
    predictor = service.predictor
    with scratch_folder() as folder:
        written = _Written(folder, service.config.max_unpacked_bytes)
        for upload in uploads:
            _check(stop)
            written.add(upload)
        inputs = inputs_of(list(written.files))

        def take(prediction: Prediction) -> None:
            _check(stop)
            written.records.append(written.named(prediction.to_record()))

        volumes = [each for each in inputs if isinstance(each, Volume)]
        studies = [written.named(predictor.study_of(volume, each=take).to_record()) for volume in volumes]
        for prediction in predictor.predict_many(each for each in inputs if not isinstance(each, Volume)):
            take(prediction)
    if not studies:
        detail = "no volume among the files; send a NIfTI file or two or more slices of a DICOM series"
        raise ProblemError(422, "no_volume", detail, records=written.records)
    return {"studies": studies, "records": written.records}


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped


@dataclass(slots=True, eq=False)
class _Written:
    """The uploads of a request as files under plain names.

    Attributes:
        folder: holds them.
        most_bytes: that they may take together; archives have a limit each, so that many could fill the disk.
        files: each file -> the name of its upload.
        records: of slices and pictures, and of uploads that could not be unpacked.
        size: bytes that the files take.
    """

    folder: Path
    most_bytes: int
    files: dict[Path, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0

    def add(self, upload: Upload) -> None:
        """Writes an upload; raises ProblemError where all of them take too much."""
        try:
            content = upload.read()
        except DetectclfError as error:
            self.records.append(Prediction(upload.name, error=str(error), error_exit=error.exit_code).to_record())
            return
        self.size += len(content)
        if self.size > self.most_bytes:
            detail = f"the files unpack to more than {self.most_bytes} bytes together; send fewer in a request"
            raise ProblemError(413, "too_large_unpacked", detail)
        # NIfTI volumes are named after their file, so the name is kept as far as it is plain.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", upload.name.rpartition("/")[2])[-100:].lstrip(".") or "upload"
        file = self.folder / f"{len(self.files):05d}" / name
        file.parent.mkdir()
        file.write_bytes(content)
        self.files[file] = upload.name

    def named(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record`` with the names of uploads in place of those of their files."""
        if "image" in record:
            record["image"] = self.files.get(Path(record["image"]), record["image"])
        if record.get("error"):
            folder = str(self.folder)
            error = re.sub(re.escape(folder) + r"[/\\]+\d{5}[/\\]", "", record["error"])
            record["error"] = error.replace(folder, "upload")
        return record


__all__ = ["Studies", "StudyRecord", "router"]
