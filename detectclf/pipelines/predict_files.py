"""The records and pictures of a prediction in one folder, written as they are made; ``--resume`` goes on with them."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.errors import ConfigError, DataError, DetectclfError
from detectclf.files import atomic_write, read_bytes
from detectclf.inference.containers import Container
from detectclf.inference.items import Item
from detectclf.inference.journal import Journal
from detectclf.inference.picture_names import PICTURE_SUFFIX, picture_names
from detectclf.inference.records import FORMATS, STUDIES_FILE, write_records, write_studies
from detectclf.inference.run_description import RUN_FILE, check_same_run, parse_run, run_text
from detectclf.inference.sources import ImageSource, name_of
from detectclf.inference.volumes import Volume
from detectclf.prediction import Prediction
from detectclf.storage import shown

if TYPE_CHECKING:
    from detectclf.inference.studies import Study

log = logging.getLogger(__name__)

_JOURNAL, _STUDIES_JOURNAL = "predictions.partial.jsonl", "studies.partial.jsonl"
_LIMIT_BYTES = 2**20


class Results:
    """What is predicted so far. It lies in journals; memory holds counts only.

    Args:
        out: the folder, which exists.
        format: of the final file, a key of :data:`detectclf.inference.records.FORMATS`.
        description: of this run (:mod:`detectclf.inference.run_description`).
        resume: go on with the records that lie there.

    Attributes:
        finished: nothing is left to do, since the run that is resumed had come to its end.
        failed: inputs that failed; a volume that is refused as a whole counts as one.
        worst: highest exit code of their errors.

    Raises:
        ConfigError: ``resume``, and the records there were made otherwise; or not, and an unfinished run lies there.
        DataError: the folder cannot be read or written.
    """

    def __init__(self, out: Path, format: str, description: dict[str, Any], *, resume: bool) -> None:
        self.out, self.format, self.description = out, format, description
        self.failed = self.worst = 0
        journal = out / _JOURNAL
        earlier = _earlier(out)
        if earlier is not None and "shard_size" in earlier["settings"]:
            raise ConfigError(f"{out}: has the shards of another run", remedy="choose another --out")
        if resume:
            self._check(earlier)
        elif _has_records(journal) and earlier is not None and not earlier["finished"]:
            raise ConfigError(
                f"{out}: has the records of a run that was stopped",
                remedy=f"go on with --resume, choose another --out, or remove {_JOURNAL}",
            )
        # Without its journal a run has come to its end, even where it could not say so any more.
        self.finished = resume and earlier is not None and "result" in earlier and not journal.exists()
        if self.finished and earlier is not None:
            self.description = earlier
            return
        if not resume or earlier is None:
            for file in (journal, out / _STUDIES_JOURNAL):
                atomic_write(file, b"")
        self.records, self.studies = Journal(journal), Journal(out / _STUDIES_JOURNAL)
        self._describe()

    def _check(self, earlier: dict[str, Any] | None) -> None:
        if earlier is not None:
            check_same_run(earlier, self.description, str(self.out))
        elif (self.out / FORMATS[self.format][0]).exists():
            raise ConfigError(
                f"{self.out}: nothing says how its records were made (no {RUN_FILE})", remedy="choose another --out"
            )

    @property
    def done(self) -> int:
        """Pictures and slices that could be read."""
        return self.records.count - self.records.failed

    def has(self, source: Item) -> bool:
        """Takes over what the run that is resumed had predicted of ``source``, the next one; whether it is all of it.

        Raises:
            DataError: its records are of other inputs.
        """
        if isinstance(source, Volume):
            return self._has_volume(source)
        if isinstance(source, Container):
            return self._has_pictures(source)
        record = self.records.peek()
        if record is None:
            return False
        if record.get("image") != name_of(source):
            raise DataError(
                f"record {self.records.count + 1} is not of {name_of(source)}",
                file=self.records.file,
                remedy="choose another --out",
            )
        self.records.skip()
        return True

    def _has_pictures(self, container: Container) -> bool:
        if self.records.peek() is None:
            return False
        for picture in container:
            if not self.has(picture):
                return False
            container.skip += 1
        return True

    def _has_volume(self, volume: Volume) -> bool:
        study = self.studies.peek()
        if study is None or study.get("study") != volume.name:
            # Some of its slices may be there, but a study needs the predictions of all of them.
            return False
        self.records.skip(0 if volume.error is not None else len(volume))
        self.studies.skip()
        self.failed += volume.error is not None
        return True

    def add(self, prediction: Prediction) -> None:
        """Writes the record of a picture or slice."""
        if prediction.error is not None:
            log.error("%s", prediction.error)
            self.worst = max(self.worst, prediction.error_exit)
        self.records.write(prediction.to_record())

    def add_study(self, study: Study) -> None:
        """Writes the record of a volume, whose slices are written."""
        if study.error is not None:
            log.error("%s", study.error)
            if not study.predictions:  # else each of its slices has been counted
                self.failed += 1
                self.worst = max(self.worst, study.error_exit)
        self.studies.write(study.to_record(FORMATS[self.format][0]))

    def finish(self) -> None:
        """Gives the files of records and studies their names; without studies, those of an earlier run are removed.

        Raises:
            DataError: a file cannot be written.
        """
        self.failed += self.records.failed
        self.worst = max(self.worst, 2 if self.failed else 0)
        self.description |= {"result": {"done": self.done, "failed": self.failed, "studies": self.studies.count}}
        self._describe()
        has_studies = self.studies.count > 0
        if not has_studies:
            (self.out / STUDIES_FILE).unlink(missing_ok=True)
        self.studies.finish(self.out / STUDIES_FILE if has_studies else None)
        if self.format == "jsonl":
            self.records.finish(self.out / FORMATS[self.format][0])
        else:
            write_records(list(self.records.records()), self.out, self.format)
            self.records.finish(None)
        self.description["finished"] = True
        self._describe()

    def save(self) -> Path | None:
        """Writes the records so far as if they were all; the journals stay. ``None`` where there are none."""
        self.records.close()
        self.studies.close()
        if not self.records.count:
            return None
        if self.studies.count:
            write_studies(list(self.studies.records()), self.out)
        if self.format != "jsonl":
            return write_records(list(self.records.records()), self.out, self.format)
        file = self.out / FORMATS[self.format][0]
        partial = file.with_suffix(".copy")
        shutil.copyfile(self.records.file, partial)
        return partial.replace(file)

    def _describe(self) -> None:
        atomic_write(self.out / RUN_FILE, run_text(self.description))


def _earlier(out: Path) -> dict[str, Any] | None:
    file = out / RUN_FILE
    return parse_run(read_bytes(file, limit_bytes=_LIMIT_BYTES), str(file)) if file.exists() else None


def _has_records(journal: Path) -> bool:
    return journal.exists() and journal.stat().st_size > 0


@dataclass(slots=True, eq=False)
class Drawing:
    """Which pictures are drawn, and how many could not be; ``part`` is what ``--frame`` and ``--axis`` say."""

    out: Path
    visualize: bool
    explain: bool
    part: str
    failed: int = 0

    def names(self, sources: Sequence[Item]) -> Iterator[Path]:
        """A file for the picture of each source."""
        named = [
            source.stem
            if isinstance(source, Volume)
            else shown(source.name)
            if isinstance(source, Container)
            else name_of(source)
            for source in sources
        ]
        return (self.out / name for name in picture_names(named, self.part))

    def pictures(self, source: ImageSource | Container, file: Path) -> Iterator[tuple[ImageSource, Path, bool]]:
        """The pictures in ``source``, the file that each is drawn into, and whether it is the first."""
        if not isinstance(source, Container):
            yield source, file, True
            return
        stem = file.name.removesuffix(PICTURE_SUFFIX)
        for number, picture in enumerate(source, start=source.skip):
            yield picture, file.with_name(f"{stem}-{number:06d}{PICTURE_SUFFIX}"), number == source.skip

    def save(self, result: Prediction | Study, file: Path) -> None:
        """Draws a result into ``file``; where that fails, the log says so."""
        if not self.visualize or result.error is not None:
            return
        buffer = io.BytesIO()
        try:
            result.draw().save(buffer, format="PNG")
            atomic_write(file, buffer.getvalue())
        except DetectclfError as error:
            log.error("%s", error)
            self.failed += 1


__all__ = ["Drawing", "Results"]
