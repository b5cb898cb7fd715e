"""The route for volumes: NIfTI files and DICOM series, each with its study record; and the steps that make them.

Volumes are read slice by slice from files, so what was uploaded lies in a temporary folder until the answer is made.
One request is worked on at a time: a volume keeps the model busy for seconds, and pictures of other requests go on
beside it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from detectclf.errors import DetectclfError
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import ImageSource
from detectclf.inference.studies import Study
from detectclf.inference.volumes import Volume, inputs_of
from detectclf.leftovers import scratch_folder
from detectclf.prediction import Prediction
from detectclf.serving.api import FILES_BODY, UPLOAD_PROBLEMS, Record, problems
from detectclf.serving.batching import Upload
from detectclf.serving.problems import ProblemError, busy
from detectclf.serving.service import Service, TheService

router = APIRouter()

_RETRY_AFTER = 10
_ROOT = "files"
_DEEPEST = 16


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
    if service.volumes.locked():  # before the body, which may be large, is read
        raise busy("volumes_busy", "another volume is being worked on; try again", _RETRY_AFTER)
    async with service.volumes:
        uploads = await service.intake.uploads(request, service.config.max_volume_files)
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
    for step in steps_of(service, uploads, partial(_check, stop)):
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


class Started(NamedTuple):
    """A volume is begun: its name, how many slices it has, and the name of the upload with its first slice."""

    study: str
    slices: int
    file: str


class Predicted(NamedTuple):
    """A slice or a picture is done.

    Attributes:
        record: with the name of the upload.
        prediction: ``None`` where the upload could not be unpacked.
        source: gives its pixels again until the next step.
    """

    record: dict[str, Any]
    prediction: Prediction | None = None
    source: ImageSource | None = None


class Ended(NamedTuple):
    """A volume is done: the record of its study, and whether class and findings mean anything."""

    record: dict[str, Any]
    judged: bool


Step: TypeAlias = "Started | Predicted | Ended"


def steps_of(
    service: Service, uploads: Sequence[Upload], check: Callable[[], None] = lambda: None
) -> Generator[Step, None, None]:
    """Predicts all volumes, then what is no part of one; where it is closed, nothing is left on disk either.

    Args:
        service: the model, and how much may lie on disk.
        uploads: the files.
        check: called before each file is written; raises where nobody waits any more.

    Raises:
        ProblemError: too much for the disk.
    """
    with scratch_folder() as folder:
        written = _Written(folder, service.config.max_unpacked_bytes)
        for upload in uploads:
            check()
            written.add(upload)
        yield from map(Predicted, written.records)
        inputs = inputs_of(list(written.files))
        for volume in inputs:
            if isinstance(volume, Volume):
                yield from _steps_of_volume(service.predictor, volume, written)
        pictures = [each for each in inputs if not isinstance(each, Volume)]
        for source, prediction in zip(pictures, service.predictor.predict_many(pictures), strict=True):
            yield Predicted(written.named(prediction.to_record()), prediction, source)


def _steps_of_volume(predictor: Predictor, volume: Volume, written: _Written) -> Iterator[Step]:
    yield Started(volume.name, len(volume), written.files.get(Path(volume.files[0].path), volume.name))
    sources, steps = list(volume), predictor.study_in_steps(volume)
    try:
        while True:
            prediction = next(steps)
            source = sources[prediction.origin.number or 0]
            yield Predicted(written.named(prediction.to_record()), prediction, source)
    except StopIteration as end:
        study: Study = end.value
        yield Ended(written.named(study.to_record("records")), study.judged)
    finally:
        steps.close()


@dataclass(slots=True, eq=False)
class _Written:
    """The uploads of a request as files under plain names.

    Attributes:
        folder: holds them.
        most_bytes: that they may take together; archives have a limit each, so that many could fill the disk.
        files: each file -> the name of its upload.
        records: of uploads that could not be unpacked.
        size: bytes that the files take.
        numbers: names of folders -> number.
        taken: folder and name -> how many files have had them.
    """

    folder: Path
    most_bytes: int
    files: dict[Path, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    taken: Counter[tuple[Path, str]] = field(default_factory=Counter)

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
        file = self._place(upload)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.files[file] = upload.name

    def _place(self, upload: Upload) -> Path:
        """A path for an upload, in a folder that it shares with those that were in one folder where they come from.

        Of several files of one name, such as those of two patients, the second goes to another folder, and so on.
        """
        # NIfTI volumes are named after their file, so the name is kept as far as it is plain.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", upload.name.rpartition("/")[2])[-100:].lstrip(".") or "upload"
        parts = [part for part in upload.folder.split("/") if part][:_DEEPEST]
        # Numbers in place of names, which may be any.
        numbers = [f"{self.numbers.setdefault(part, len(self.numbers)):05d}" for part in parts]
        folder = self.folder.joinpath(_ROOT, *numbers)
        before = self.taken[folder, name.lower()]  # not every disk tells capitals apart
        self.taken[folder, name.lower()] += 1
        return (folder.with_name(f"{folder.name}.{before}") if before else folder) / name

    def named(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record`` with the names of uploads in place of those of their files."""
        if "image" in record:
            record["image"] = self.files.get(Path(record["image"]), record["image"])
        if record.get("left_out"):
            record["left_out"] = [self.files.get(Path(file), "upload") for file in record["left_out"]]
        if record.get("error"):
            folder = re.escape(str(self.folder)) + rf"[/\\]+{_ROOT}(\.\d+)?([/\\]+\d{{5}}(\.\d+)?)*"
            record["error"] = re.sub(folder, "upload", re.sub(folder + r"[/\\]+", "", record["error"]))
        return record


__all__ = ["Ended", "Predicted", "Started", "Step", "Studies", "StudyRecord", "router", "steps_of"]
