"""``data download``: an export from Roboflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def download(version: str, out: Path, *, format: str = "coco", quiet: bool = False) -> dict[str, Any]:
    """Downloads a Roboflow export with a progress bar."""
    from detectclf.formats import roboflow

    with _download_progress(quiet) as progress:
        roboflow.download(version, out, format=format, progress=progress)
    return {"wrote": str(out), "detail": f"{version} as {format}"}


@contextmanager
def _download_progress(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """A bar per stage on a terminal; elsewhere a line when a stage begins."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, disable=not console.is_terminal) as bars:

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
                if not console.is_terminal:
                    log.info("%s ...", stage)
            bars.update(tasks[stage], completed=share)

        yield report
