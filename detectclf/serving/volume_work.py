"""What is done with the files of a request that may be volumes: they are written, told apart and predicted, in steps.

Volumes are read slice by slice from files, so what was uploaded lies in a temporary folder until the last step.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from detectclf.errors import DetectclfError
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import ImageSource, pixels_of
from detectclf.inference.volumes import Volume, inputs_of
from detectclf.prediction import Prediction
from detectclf.serving.batching import Upload
from detectclf.serving.problems import ProblemError
from detectclf.types import Pixels


class Started(NamedTuple):
    """A volume is begun.

    Attributes:
        study: its name.
        slices: how many it has.
        file: name of the upload with its first slice.
    """

    study: str
    slices: int
    file: str


class Predicted(NamedTuple):
    """A slice or a picture is done.

    Attributes:
        prediction: of it.
        record: its record, with the name of the upload.
        source: gives its pixels again; ``None`` where the upload could not be unpacked.
    """

    prediction: Prediction
    record: dict[str, Any]
    source: ImageSource | None

    def pixels(self) -> Pixels:
        """Grey levels ``(H, W)``; only before the next step."""
        if self.source is None:
            raise ValueError("nothing was unpacked")
        return pixels_of(self.source)


class Ended(NamedTuple):
    """A volume is done.

    Attributes:
        record: of the study.
        judged: whether class and findings mean anything.
    """

    record: dict[str, Any]
    judged: bool


Step: TypeAlias = "Started | Predicted | Ended"


def worked_on(
    predictor: Predictor, uploads: Sequence[Upload], most_bytes: int, check: Callable[[], None] = lambda: None
) -> Iterator[Step]:
    """Predicts all volumes, then what is no part of one; where it is closed, nothing is left on disk either.

    Args:
        predictor: the model.
        uploads: the files.
        most_bytes: that they may take on disk together.
        check: called before each file is written; raises where nobody waits any more.

    Raises:
        ProblemError: too much for the disk.
    """
    with tempfile.TemporaryDirectory(prefix="detectclf-") as folder:
        written = _Written(Path(folder), most_bytes)
        for upload in uploads:
            check()
            refused = written.add(upload)
            if refused is not None:
                yield Predicted(refused, refused.to_record(), None)
        inputs = inputs_of(list(written.files))
        for volume in inputs:
            if isinstance(volume, Volume):
                yield from _volume(predictor, volume, written)
        pictures = [each for each in inputs if not isinstance(each, Volume)]
        for source, prediction in zip(pictures, predictor.predict_many(pictures), strict=True):
            yield Predicted(prediction, written.named(prediction.to_record()), source)


def _volume(predictor: Predictor, volume: Volume, written: _Written) -> Iterator[Step]:
    yield Started(volume.name, len(volume), written.files.get(Path(volume.files[0].path), volume.name))
    sources, steps = list(volume), predictor.study_in_steps(volume)
    try:
        while True:
            prediction = next(steps)
            source = sources[prediction.origin.number or 0]
            yield Predicted(prediction, written.named(prediction.to_record()), source)
    except StopIteration as end:
        yield Ended(written.named(end.value.to_record()), end.value.judged)
    finally:
        steps.close()


@dataclass(slots=True, eq=False)
class _Written:
    """The uploads of a request as files under plain names.

    Attributes:
        folder: holds them.
        most_bytes: that they may take together; archives have a limit each, so that many could fill the disk.
        files: each file -> the name of its upload.
        size: bytes that the files take.
    """

    folder: Path
    most_bytes: int
    files: dict[Path, str] = field(default_factory=dict)
    size: int = 0

    def add(self, upload: Upload) -> Prediction | None:
        """Writes an upload, or says why it has no content; raises ProblemError where all of them take too much."""
        try:
            content = upload.read()
        except DetectclfError as error:
            return Prediction(upload.name, error=str(error), error_exit=error.exit_code)
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
        return None

    def named(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record`` with the names of uploads in place of those of their files."""
        if "image" in record:
            record["image"] = self.files.get(Path(record["image"]), record["image"])
        if record.get("error"):
            folder = str(self.folder)
            error = re.sub(re.escape(folder) + r"[/\\]+\d{5}[/\\]", "", record["error"])
            record["error"] = error.replace(folder, "upload")
        return record


__all__ = ["Ended", "Predicted", "Started", "Step", "worked_on"]
