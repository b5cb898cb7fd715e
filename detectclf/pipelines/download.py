"""``data download``: an export from Roboflow."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detectclf.progress import Progress

log = logging.getLogger(__name__)

_PER_CENT = 100


def download(version: str, out: Path, *, format: str = "coco", quiet: bool = False) -> dict[str, Any]:
    """Downloads a Roboflow export; each step of it (export, download, unpacking) shows its progress."""
    from detectclf.formats import roboflow

    with ExitStack() as shown:
        steps: dict[str, Progress] = {}

        def report(step: str, share: float) -> None:
            if step not in steps:
                shown.close()  # a terminal shows one bar at a time
                log.info("%s ...", step)
                steps[step] = shown.enter_context(Progress(step, _PER_CENT, show=not quiet))
            steps[step].advance(round(share * _PER_CENT) - steps[step].done)

        roboflow.download(version, out, format=format, progress=report)
    return {"wrote": str(out), "detail": f"{version} as {format}"}
