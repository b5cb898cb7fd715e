"""Collecting the faults of a data set: one code path for the audit, which reports all, and for training, which stops.

Readers hand every fault to a :class:`Faults` and go on with a mended value (a clipped box, a slice left out), so what
a reader returns is always usable; whether a fault is a reason to stop is the caller's to say.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from detectclf.errors import DataError, UnsafeError, one_line
from detectclf.imaging.intensity import UNSAFE
from detectclf.types import Problem


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a reader did differently from what the annotation says, with all that is needed to undo it.

    Attributes:
        action: ``change_box``, ``drop_box``, ``scale_boxes``, ``leave_out`` (a slice), ``rename_class`` or
            ``drop_record`` (of an annotation file, kept as it stands there).
        code: the fault that it mends.
        split, name: the slice, or ``None`` where it is about the whole data set.
        before, after: the value as stated and as mended; ``None`` for none.
    """

    action: str
    code: str
    split: str | None
    name: str | None
    before: Any
    after: Any

    def to_record(self) -> dict[str, Any]:
        """One line of ``fixes.jsonl``."""
        return asdict(self)


class Faults:
    """The faults found in one data set folder.

    Args:
        root: folder of the data set; files inside it are named relative to it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.changes: list[Change] = []

    def add(
        self, severity: Literal["error", "warning"], code: str, file: Path | str, line: int | None, detail: str
    ) -> None:
        """Notes one fault; see :class:`detectclf.types.Problem` for the fields."""
        self.problems.append(Problem(severity, code, self.relative(file), line, one_line(detail)))

    def error(self, code: str, file: Path | str, detail: str, line: int | None = None) -> None:
        """Notes a fault that makes training go wrong."""
        self.add("error", code, file, line, detail)

    def warning(self, code: str, file: Path | str, detail: str, line: int | None = None) -> None:
        """Notes a fault that is worth a look."""
        self.add("warning", code, file, line, detail)

    def drop(self, code: str, file: Path | str, stated: object, line: int | None = None) -> None:
        """Notes that a record of an annotation file (text, or what its JSON says) is not in what the reader gives."""
        text = stated if isinstance(stated, str) else json.dumps(stated)
        before = {"file": self.relative(file), "line": line, "stated": text}
        self.changes.append(Change("drop_record", code, None, None, before, None))

    def relative(self, file: Path | str) -> str:
        """``file`` relative to the data set where it lies inside, else as it is; always with ``/``."""
        path = Path(file)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    @property
    def errors(self) -> list[Problem]:
        """The faults of severity ``error``, in the order found."""
        return [p for p in self.problems if p.severity == "error"]

    def raise_first(self, remedy: str | None = None) -> None:
        """Stops at the first error, an unsafe file before all others, saying how many there are.

        Args:
            remedy: what to do about it; by default what helps before training.

        Raises:
            DataError: there is an error.
            UnsafeError: there is an unsafe file.
        """
        errors = self.errors
        if not errors:
            return
        first, more = next((p for p in errors if p.code == UNSAFE), errors[0]), len(errors) - 1
        kind = UnsafeError if first.code == UNSAFE else DataError
        reason = f"{first.detail} [{first.code}]" + (f" (and {more} more errors)" if more else "")
        remedy = remedy or f"list them with `detectclf data check {self.root}`, or fix with --set data.faults=fix"
        raise kind(reason, file=self.root / first.file, line=first.line, remedy=remedy)

    def summary(self) -> str:
        """Counts of the errors by code, such as ``2 box_outside_image, 1 orphan_annotation``."""
        return ", ".join(f"{n} {code}" for code, n in Counter(p.code for p in self.errors).most_common())


__all__ = ["Change", "Faults"]
