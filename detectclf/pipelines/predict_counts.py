"""How many predictions a run made, and what is said of those that failed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from detectclf.inference.items import Item
from detectclf.prediction import Prediction

if TYPE_CHECKING:
    from detectclf.inference.studies import Study

log = logging.getLogger(__name__)


class Counts:
    """How many predictions were made; they are written nowhere.

    Attributes:
        finished: nothing is left to do.
        done: pictures and slices that could be read.
        failed: inputs that failed; a volume that is refused as a whole counts as one.
        volumes: those among the inputs.
        worst: highest exit code of the errors.
    """

    def __init__(self) -> None:
        self.finished = False
        self.done = self.failed = self.volumes = self.worst = 0
        self._missing: list[tuple[str, str]] = []

    @property
    def records_file(self) -> str | None:
        """Name of the file of records; ``None``: there is none."""
        return None

    def has(self, source: Item) -> bool:
        """Whether nothing of ``source`` is left to do."""
        return False

    def add(self, prediction: Prediction) -> None:
        """Counts the prediction of a picture or slice, and says why it failed."""
        self.count(prediction.error)
        if prediction.missing is not None:
            self._missing.append(prediction.missing)
        elif prediction.error is not None:
            log.error("%s", prediction.error)
        self.worst = max(self.worst, prediction.error_exit)

    def count(self, error: str | None) -> None:
        """Counts a picture or slice with this error."""
        self.done += error is None
        self.failed += error is not None

    def add_study(self, study: Study) -> None:
        """Counts a volume, whose slices were added."""
        self.volumes += 1
        if study.error is not None and not any(each.missing for each in study.predictions):
            log.error("%s", study.error)
        if study.error is not None and not study.predictions:  # else each of its slices has been counted
            self.failed += 1
            self.worst = max(self.worst, study.error_exit)

    @property
    def exit_code(self) -> int:
        """0 where all went well, 4 where only some inputs failed, else that of the worst error."""
        return 0 if not self.failed else 4 if self.done else self.worst

    def say_failed(self) -> None:
        """Says how many of several inputs could not be read."""
        total = self.done + self.failed
        if self.failed and total > 1:
            log.warning("%d of %d could not be read", self.failed, total)

    def say_missing(self) -> None:
        """Says in one line which packages were missing, and for how many files."""
        if not self._missing:
            return
        packages, remedies = (" and ".join(sorted(set(each))) for each in zip(*self._missing, strict=True))
        count = len(self._missing)
        files = "1 file is" if count == 1 else f"{count} files are"
        log.error("%s not read: %s not installed; %s", files, packages, remedies)


__all__ = ["Counts"]
