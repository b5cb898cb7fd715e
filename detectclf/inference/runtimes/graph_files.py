"""The files of a graph: it, and its weights beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detectclf.leftovers import scratch_folder


def state_of(graph: Path) -> list[tuple[str, int, int]]:
    """What changes when a graph or its weights are written again."""
    found = []
    for each in _files(graph):
        with suppress(OSError):  # one that is missing is refused where it is opened
            known = each.stat()
            found.append((each.name, known.st_mtime_ns, known.st_size))
    return found


@contextmanager
def in_one_folder(graph: Path) -> Iterator[Path]:
    """The graph in a folder that really holds its weights: a copy where one of them is a symbolic link.

    OpenVINO refuses weights that lie in another folder, as those do in the caches of hubs and installers.
    """
    files = _files(graph)
    if not any(each.is_symlink() for each in files):
        yield graph
        return
    with scratch_folder() as folder:
        for each in files:
            if each.is_file():
                shutil.copyfile(each, folder / each.name)
        yield folder / graph.name


def _files(graph: Path) -> tuple[Path, Path]:
    return graph, graph.with_suffix(".safetensors")


__all__ = ["in_one_folder", "state_of"]
