"""Keeps Pillow's libtiff from writing to stderr itself, where the command line promises one line per error."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from pathlib import Path

import PIL


@cache
def silence_libtiff() -> None:
    """Takes the handlers of messages from libtiff, for good; what it reports is an exception of Pillow anyway.

    Nothing happens where libtiff is not found, as in Pillow's wheels for Windows, which have it inside.
    """
    package = Path(PIL.__file__).parent
    bundled = [*package.parent.glob("pillow.libs/libtiff*"), *package.glob(".dylibs/libtiff*")]
    for name in [*map(str, bundled), ctypes.util.find_library("tiff") if not bundled else None]:
        if name is None:
            continue
        try:
            library = ctypes.CDLL(name)  # the one that Pillow has loaded: a library is in a process once
            for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)
        except (OSError, AttributeError):
            continue


__all__ = ["silence_libtiff"]
