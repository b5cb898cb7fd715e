"""Collects the faults of a data set, for the audit, which reports them all, and for training, which may stop.

Readers report every fault to a :class:`Faults` and go on with a fixed value (a clipped box, a slice left out). So what
they return is always usable, and the caller decides whether to stop.
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

HIDDEN = "(not kept: it may name a patient)"
"""What is logged in the place of a text that may name a patient."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the annotation and what the reader returned, with all that is needed to undo it.

    Attributes:
        action: ``change_box``, ``drop_box``, ``scale_boxes``, ``leave_out`` (a slice), ``rename_class`` or
            ``drop_record`` (a record of an annotation file, kept verbatim but for
            ids of patients).
        code: the fault that it fixes.
        split, name: the slice, or ``None`` for a change of the whole data set.
        before, after: the value as annotated and as fixed; ``None`` where there is none.
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
        root: folder of the data set; the files in it are named relative to it.

    Attributes:
        problems, changes: in the order in which they were found.
        used: annotation files that describe slices.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.changes: list[Change] = []
        self.used: set[Path] = set()

    def add(
        self, severity: Literal["error", "warning"], code: str, file: Path | str, line: int | None, detail: str
    ) -> None:
        """Records one fault; see :class:`detectclf.types.Problem` for the fields."""
        self.problems.append(Problem(severity, code, self.relative(file), line, one_line(detail)))

    def error(self, code: str, file: Path | str, detail: str, line: int | None = None) -> None:
        """Records a fault that would harm training."""
        self.add("error", code, file, line, detail)

    def warning(self, code: str, file: Path | str, detail: str, line: int | None = None) -> None:
        """Records a fault that deserves a look."""
        self.add("warning", code, file, line, detail)

    def drop(self, code: str, file: Path | str, record: object, line: int | None = None) -> None:
        """Records that the reader left out a record of an annotation file, given as its text or its JSON value."""
        text = record if isinstance(record, str) else json.dumps(record)
        if isinstance(record, str) and "patient" in text.casefold():
            text = HIDDEN  # readers of JSON hide ids themselves
        before = {"file": self.relative(file), "line": line, "stated": text}
        self.changes.append(Change("drop_record", code, None, None, before, None))

    def reject(self, code: str, file: Path | str, detail: str, record: object, line: int | None = None) -> None:
        """Records an error and that the reader left out the record that has it."""
        self.error(code, file, detail, line)
        self.drop(code, file, record, line)

    def relative(self, file: Path | str) -> str:
        """``file`` relative to the data set if it lies inside, else unchanged; always with ``/``."""
        path = Path(file)
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    @property
    def errors(self) -> list[Problem]:
        """The faults of severity ``error``, in the order in which they were found."""
        return [p for p in self.problems if p.severity == "error"]

    def raise_first(self, remedy: str | None = None) -> None:
        """Raises the first error, with the number of further ones; an unsafe file goes before all others.

        Args:
            remedy: what the user can do; by default, what helps before training.

        Raises:
            DataError: there are errors.
            UnsafeError: one of them is an unsafe file.
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
        """Number of errors by code, such as ``2 box_outside_image, 1 orphan_annotation``."""
        return ", ".join(f"{n} {code}" for code, n in Counter(p.code for p in self.errors).most_common())


__all__ = ["HIDDEN", "Change", "Faults"]
