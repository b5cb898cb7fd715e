"""Finds the pictures that end the process that reads them, such as by a fault of a decoder, in processes of their own.

Run as a program it reads what it is asked for from stdin, and says the number of each picture or volume before it reads
it, so that its last number says where it ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from detectclf.errors import DetectclfError
from detectclf.inference.items import Unit, units_alone
from detectclf.inference.preprocess import prepare
from detectclf.inference.sources import ImageSource
from detectclf.inference.volumes import Volume

_TRIES = 3
_SIDE = 64
"""Pixels; what follows the decoding only has to run."""


def fatal_units(names: Sequence[str], frame: int | None, axis: str | None) -> set[int]:
    """Numbers of the pictures and volumes that ended three processes each, of those that ``units_alone`` gives.

    Args:
        names, frame, axis: as of :func:`detectclf.inference.items.units_alone`.
    """
    fatal: set[int] = set()
    first = tries = 0
    while (ended := _ended_at(names, frame, axis, first)) is not None:
        if ended < first:  # while it looked for the pictures, such as in a container
            break
        tries = tries + 1 if ended == first else 1
        first = ended
        if tries == _TRIES:
            fatal.add(ended)
            first, tries = ended + 1, 0
    return fatal


def _ended_at(names: Sequence[str], frame: int | None, axis: str | None, first: int) -> int | None:
    """What a process that reads all from number ``first`` on was at when it ended; ``None`` where it read them all."""
    asked = json.dumps({"names": list(names), "frame": frame, "axis": axis, "first": first})
    done = subprocess.run(
        [sys.executable, "-m", "detectclf.inference.trial"],
        input=asked,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        # Workers of a cluster find this package in the folders that they were told, and not by their own.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
    )
    numbers = done.stdout.split()
    return int(numbers[-1]) if done.returncode and numbers else None


def main() -> None:
    """Reads what stdin asks for."""
    asked = json.load(sys.stdin)
    units = units_alone(asked["names"], asked["frame"], asked["axis"])
    number = 0
    print(number, flush=True)
    with suppress(DetectclfError):  # of a store, which the worker meets as well
        for unit in units:
            if number >= asked["first"]:
                _read(unit)
            number += 1
            print(number, flush=True)


def _read(unit: Unit) -> None:
    pictures: Sequence[ImageSource] | Volume = unit if isinstance(unit, Volume) else [unit]
    with suppress(Exception):  # which end no process
        for picture in pictures:
            prepare(picture, _SIDE, _SIDE)
    if isinstance(unit, Volume):
        unit.close()


if __name__ == "__main__":
    main()


__all__ = ["fatal_units"]
