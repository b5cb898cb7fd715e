"""``compare``: a leader board of evaluated runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectclf.evaluation.compare import Board


def compare(runs: Sequence[Path], out: Path | None = None) -> Board:
    """Leader board of evaluated runs, with paired tests; the page is written into ``out``.

    Raises:
        DataError: a folder is neither an evaluation nor a run, or is damaged; or ``out`` cannot be written.
    """
    from detectclf.evaluation.compare import compare_runs, write_board

    board = compare_runs(runs)
    if out is not None:
        write_board(board, out)
    return board
