"""What the engines of ``predict`` give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Predicted:
    """Result of ``predict``.

    Attributes:
        file: the records of pictures and slices; the manifest of those in shards; ``None`` where nothing was written.
        studies: those of the volumes; ``None`` where there were none.
        done, failed: numbers of pictures and slices; a volume that is refused as a whole counts as one that failed.
        exit_code: 4 where some inputs or pictures failed.
        page: the gallery of the pictures; ``None`` where there is none.
    """

    file: Path | str | None
    studies: Path | str | None
    done: int
    failed: int
    exit_code: int
    page: Path | None = None


Engine: TypeAlias = Callable[[Sequence[int]], Iterator[dict[str, Any]]]
"""Predicts the parts of these numbers in any order; gives what each has written."""


__all__ = ["Engine", "Predicted"]
