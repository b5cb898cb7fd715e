"""The records of a prediction in one folder, written as they are made; ``--resume`` goes on with them."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.errors import ConfigError, DataError
from detectclf.files import atomic_write, read_bytes
from detectclf.inference.containers import Container
from detectclf.inference.items import Item
from detectclf.inference.journal import Journal
from detectclf.inference.records import FORMATS, STUDIES_FILE, write_records, write_studies
from detectclf.inference.run_description import RUN_FILE, check_same_run, parse_run, run_text
from detectclf.inference.sources import name_of
from detectclf.inference.volumes import Volume
from detectclf.leftovers import unfinished_name
from detectclf.pipelines.predict_counts import Counts
from detectclf.pipelines.predict_page import GALLERY_FILE, write_gallery
from detectclf.pipelines.results_folder import check_no_results
from detectclf.prediction import Prediction

if TYPE_CHECKING:
    from detectclf.inference.studies import Study

log = logging.getLogger(__name__)

_JOURNAL, _STUDIES_JOURNAL = "predictions.partial.jsonl", "studies.partial.jsonl"
_LIMIT_BYTES = 2**20


class Results(Counts):
    """What is predicted so far. It lies in journals; memory holds counts only.

    Args:
        out: the folder, which exists.
        format: of the final file, a key of :data:`detectclf.inference.records.FORMATS`.
        description: of this run (:mod:`detectclf.inference.run_description`).
        min_score: lowest score of the boxes that go into tables and labels.
        resume: go on with the records that lie there.
        earlier: called with each record of a picture, slice or volume that is taken over.

    Raises:
        ConfigError: ``resume``, and the records there were made otherwise; or not, and an unfinished run lies there.
        DataError: the folder cannot be read or written, or holds other results.
    """

    def __init__(
        self,
        out: Path,
        format: str,
        description: dict[str, Any],
        *,
        min_score: float,
        resume: bool,
        earlier: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        super().__init__()
        self._taken_over = earlier
        self.out, self.format, self.description, self.min_score = out, format, description, min_score
        journal = out / _JOURNAL
        before = _earlier(out)
        if before is not None and "shard_size" in before["settings"]:
            raise ConfigError(f"{out}: has the shards of another run", remedy="choose another --out")
        if resume:
            self._check(before)
        elif _has_records(journal) and before is not None and not before["finished"]:
            raise ConfigError(
                f"{out}: has the records of a run that was stopped",
                remedy=f"go on with --resume, choose another --out, or remove {_JOURNAL}",
            )
        else:
            others = FORMATS[format].others([], 0)
            check_no_results(out, but=(RUN_FILE, FORMATS[format].file, *others) if _is_empty(before) else ())
        # Without its journal a run has come to its end, even where it could not say so any more.
        self.finished = resume and before is not None and "result" in before and not journal.exists()
        if self.finished and before is not None:
            self.description = before
            return
        if resume and before is None:
            log.info("%s: no run to go on with, so this one begins", out)
        if not resume or before is None:
            for file in (journal, out / _STUDIES_JOURNAL):
                atomic_write(file, b"")
        self.records, self.studies = Journal(journal), Journal(out / _STUDIES_JOURNAL)
        self._describe()

    @property
    def file(self) -> Path:
        """The file of records."""
        return self.out / FORMATS[self.format].file

    @property
    def records_file(self) -> str:
        """The name of it."""
        return self.file.name

    @property
    def studies_file(self) -> Path | None:
        """The records of the volumes; ``None`` where there is none."""
        return file if (file := self.out / STUDIES_FILE).exists() else None

    @property
    def page(self) -> Path | None:
        """The gallery; ``None`` where there is none."""
        return file if (file := self.out / GALLERY_FILE).exists() else None

    def draw_page(self) -> Path | None:
        """Writes the gallery of what has been drawn; ``None`` where it is a single picture."""
        return write_gallery(self.out, list(self.records.records()), list(self.studies.records()))

    def _check(self, earlier: dict[str, Any] | None) -> None:
        if earlier is not None:
            check_same_run(earlier, self.description, str(self.out))
        elif self.file.exists():
            raise ConfigError(
                f"{self.out}: nothing says how its records were made (no {RUN_FILE})", remedy="choose another --out"
            )
        else:
            check_no_results(self.out)

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
        self._skip()
        return True

    def _skip(self) -> None:
        record = self.records.peek()
        self.records.skip()
        if record is not None:
            self.count(record.get("error"))
            self._taken_over(record)

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
        for _ in range(0 if volume.error is not None else len(volume)):
            self._skip()
        self.studies.skip()
        self._taken_over(study)
        self.volumes += 1
        self.failed += volume.error is not None
        return True

    def add(self, prediction: Prediction) -> None:
        """Writes the record of a picture or slice."""
        super().add(prediction)
        self.records.write(prediction.to_record())

    def add_study(self, study: Study) -> None:
        """Writes the record of a volume, whose slices are written."""
        super().add_study(study)
        self.studies.write(study.to_record())

    def finish(self) -> None:
        """Gives the files of records and studies their names; without studies, those of an earlier run are removed.

        Raises:
            DataError: a file cannot be written.
        """
        self.worst = max(self.worst, 2 if self.failed else 0)
        self.description |= {"result": {"done": self.done, "failed": self.failed, "studies": self.volumes}}
        self._describe()
        has_studies = self.studies.count > 0
        if not has_studies:
            (self.out / STUDIES_FILE).unlink(missing_ok=True)
        self.studies.finish(self.out / STUDIES_FILE if has_studies else None)
        if self.format == "jsonl":
            self.records.finish(self.file)
        else:
            write_records(list(self.records.records()), self.out, self.format, min_score=self.min_score)
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
        file = self.file
        if file.suffix != self.records.file.suffix:
            return write_records(list(self.records.records()), self.out, self.format, min_score=self.min_score)
        # Labels wait for the end: their names depend on all pictures.
        partial = file.with_name(unfinished_name())
        shutil.copyfile(self.records.file, partial)
        return partial.replace(file)

    def discard(self) -> None:
        """Removes what was written, and the folder where nothing else lies in it."""
        if not self.finished:
            self.records.close()
            self.studies.close()
        names = (RUN_FILE, _JOURNAL, _STUDIES_JOURNAL, STUDIES_FILE, GALLERY_FILE, FORMATS[self.format].file)
        for name in (*names, *FORMATS[self.format].others([], 0)):
            (self.out / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.out.rmdir()

    def _describe(self) -> None:
        atomic_write(self.out / RUN_FILE, run_text(self.description))


def _earlier(out: Path) -> dict[str, Any] | None:
    file = out / RUN_FILE
    return parse_run(read_bytes(file, limit_bytes=_LIMIT_BYTES), str(file)) if file.exists() else None


def _is_empty(run: dict[str, Any] | None) -> bool:
    """Whether nothing is lost with what a run left: it had not begun, or read nothing, as by a slip in a name."""
    return run is not None and run.get("result", {"done": 0})["done"] == 0


def _has_records(journal: Path) -> bool:
    return journal.exists() and journal.stat().st_size > 0


__all__ = ["Results"]
