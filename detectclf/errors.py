"""Typed errors: one line each (file, line, reason, remedy). Only ``cli/`` turns them into exit codes."""

from __future__ import annotations

import re
from pathlib import Path

from detectclf.uris import shown, without_secrets

# What a path makes of the slashes of a URI.
_SHORT_URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")


def one_line(text: object) -> str:
    """``text`` with control characters and lone surrogates escaped, so that no file name can break a log line."""
    return "".join(
        ch if ch.isprintable() and not 0xD800 <= ord(ch) <= 0xDFFF else ch.encode("unicode_escape").decode("ascii")
        for ch in str(text)
    )


class DetectclfError(Exception):
    """Base of every error that a user can cause and correct.

    Args:
        reason: what is wrong, in the user's terms.
        file: the file or folder at fault.
        line: 1-based line in ``file`` where there is one.
        remedy: what to do about it.
    """

    exit_code = 2

    def __init__(
        self, reason: str, *, file: str | Path | None = None, line: int | None = None, remedy: str | None = None
    ) -> None:
        self.reason, self.file, self.line, self.remedy = reason, file, line, remedy
        super().__init__(reason)

    def __str__(self) -> str:
        where = ""
        if self.file is not None:
            file = _SHORT_URI.sub(lambda m: f"{m[1]}:///" if m[1] == "file" else f"{m[1]}://", str(self.file))
            file = shown(file)
            where = f"{file}: " if self.line is None else f"{file}:{self.line}: "
        return one_line(without_secrets(f"{where}{self.reason}" + (f"; {self.remedy}" if self.remedy else "")))


class DataError(DetectclfError):
    """A data set, annotation or image that cannot be used as it is."""


class MissingPackageError(DataError):
    """A file whose kind needs a package that is not installed, as do all others of its kind.

    Args:
        package: its name.
        file: the file.
        remedy: how to install it.
    """

    def __init__(self, package: str, *, file: str | Path, remedy: str) -> None:
        self.package = package
        super().__init__(f"needs {package} to be read", file=file, remedy=remedy)


class ConfigError(DetectclfError):
    """A setting that is unknown, of the wrong type, or out of range."""


class ModelError(DetectclfError):
    """A run, bundle or weights file that cannot be used, or an unknown architecture."""


class DeviceError(DetectclfError):
    """A device that was asked for and is not available."""


class TrainingError(DetectclfError):
    """Training that cannot go on."""


class DivergedError(TrainingError):
    """A loss that is not finite."""


class StorageError(DetectclfError):
    """A store that refuses or does not answer: no fault of the file that was asked for."""


class UnsafeError(DetectclfError):
    """Input refused as unsafe: bomb, path escape, pickle, oversize."""

    exit_code = 3
