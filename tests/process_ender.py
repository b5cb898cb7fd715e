"""A ``sitecustomize`` that ends every process at the moment it opens a file called ``ends*.png``, as a decoder may."""

from __future__ import annotations

from pathlib import Path

CODE = """
import os, signal

_open = os.open

def _opens(path, *arguments, **named):
    name = os.path.basename(os.fspath(path)) if not isinstance(path, int) else ""
    if isinstance(name, str) and name.startswith("ends") and name.endswith(".png"):
        os.kill(os.getpid(), signal.SIGKILL)
    return _open(path, *arguments, **named)

os.open = _opens
"""


def write_ender(folder: Path) -> Path:
    """Writes it into ``folder``, which takes effect in processes that have this first in ``PYTHONPATH``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(CODE, encoding="utf-8")
    return folder


__all__ = ["write_ender"]
