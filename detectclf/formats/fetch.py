"""Fetches one file over HTTP: with resume, limits on size and time, and a checksum."""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from detectclf.deadlines import within
from detectclf.errors import DataError, UnsafeError
from detectclf.formats.archive import ZipLimits

Progress = Callable[[str, float], Any]
"""Called with the stage (``export``, ``download`` or ``unpack``) and its progress, 0 to 1."""

_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Limits of a download.

    Attributes:
        archive_bytes: most bytes of the zip.
        archive: limits of its content.
        tries: failed attempts in a row, without any new bytes, before giving up.
        timeout: seconds to wait for the next bytes, and half as long as the beginning of an answer may take.
        least_bytes: a connection that brings fewer in ``stall`` seconds counts as lost.
        stall: seconds over which ``least_bytes`` are counted.
        download_wait: seconds for the whole archive.
        export_wait: seconds to wait until Roboflow has prepared the export.
        pause: seconds between two requests for the export, and before another attempt.
    """

    archive_bytes: int = 32 * 2**30
    archive: ZipLimits = field(default_factory=ZipLimits)
    tries: int = 4
    timeout: float = 30.0
    least_bytes: int = 64 * 2**10
    stall: float = 60.0
    download_wait: float = 6 * 3600.0
    export_wait: float = 900.0
    pause: float = 2.0


def disk_reason(error: OSError) -> str:
    return (
        "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"cannot be written ({error.strerror})"
    )


class SameKindRedirects(HTTPRedirectHandler):
    """Follows redirects, except to files, to FTP, and from https to http."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            fp.close()  # urllib closes it only where the redirect is followed
            raise UnsafeError("the server redirects to an unsafe address", remedy="check the network")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Fetch:
    """Downloads one file over HTTP, with resume, size limit and checksum."""

    def __init__(self, url: str, file: Path, limits: DownloadLimits, report: Progress) -> None:
        self.url, self.file, self.limits, self.report = url, file, limits, report
        self.total: int | None = None
        self.md5: str | None = None
        self.tag: str | None = None

    def run(self) -> None:
        failures, deadline = 0, time.monotonic() + self.limits.download_wait
        while failures < self.limits.tries:
            before, drips = self._size(), False
            if failures:
                time.sleep(self.limits.pause)
            try:
                self._attempt(before, deadline)
                if self.total is None or self._size() == self.total:
                    self._check()
                    return
            except HTTPError as error:
                error.close()
                if error.code == 416:  # the server has no bytes after these: start again
                    self.file.unlink(missing_ok=True)
                elif error.code < 500 and error.code != 429:
                    reason = f"the storage of the export answers {error.code}"
                    raise DataError(reason, remedy="start the download again") from None
            except (OSError, HTTPException) as error:  # only the network: a failure of the disk is a DataError already
                drips = isinstance(error, _DripError)
            if time.monotonic() > deadline:
                break
            failures = 0 if self._size() > before and not drips else failures + 1
        raise DataError("connection lost", remedy="start the download again")

    def _size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def _attempt(self, have: int, deadline: float) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and self.tag:
            headers["If-Range"] = self.tag  # a file that has changed since is sent from its start
        request, timeout = Request(self.url, headers=headers), self.limits.timeout
        opener = build_opener(SameKindRedirects)
        with within(2 * timeout, lambda: opener.open(request, timeout=timeout)) as response:
            resumed = response.status == 206 and _range_start(response.headers.get("Content-Range")) == have
            if response.status == 206 and not resumed:
                self.file.unlink(missing_ok=True)
                raise ConnectionError("the server sent a part that was not requested")
            self._note(response.headers, have if resumed else 0)
            size = have if resumed else 0
            self._store(b"", "ab" if resumed else "wb")
            pace = _Pace(self.limits, deadline)
            # read1 gives what has come, where read would wait for a whole block from a server that drips.
            while block := response.read1(_BLOCK):
                pace.check(len(block))
                size += len(block)
                self._limit(size)
                self._store(block, "ab")
                self.report("download", size / self.total if self.total else 0.0)

    def _store(self, block: bytes, mode: str) -> None:
        try:
            with self.file.open(mode) as sink:
                sink.write(block)
        except OSError as error:
            raise DataError(
                disk_reason(error), file=self.file.parent.parent, remedy="free some space or choose another folder"
            ) from None

    def _note(self, headers: HTTPMessage, start: int) -> None:
        length = headers.get("Content-Length", "")
        self.total = start + int(length) if length.isdigit() else None
        self._limit(self.total or 0)
        tag = headers.get("ETag", "")
        # Weak tags do not guarantee equal bytes, so they cannot be used to resume.
        self.tag = tag if tag and not tag.startswith("W/") else None
        self.md5 = _md5(headers)

    def _limit(self, size: int) -> None:
        if size > self.limits.archive_bytes:
            most = self.limits.archive_bytes
            raise UnsafeError(f"the export is larger than the limit of {most} bytes", remedy="raise the limit")

    def _check(self) -> None:
        if self.md5 is None:
            return
        digest = hashlib.md5(usedforsecurity=False)
        with self.file.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        if digest.hexdigest() != self.md5:
            raise DataError("the export has a wrong checksum", remedy="start the download again")


class _DripError(ConnectionError):
    """Bytes come, but too slowly."""


class _Pace:
    """Ends a download that drips."""

    def __init__(self, limits: DownloadLimits, deadline: float) -> None:
        self.limits, self.deadline, self.since, self.count = limits, deadline, time.monotonic(), 0

    def check(self, arrived: int) -> None:
        """Counts ``arrived`` bytes; raises where they come too slowly."""
        now = time.monotonic()
        self.count += arrived
        if now > self.deadline:
            raise _DripError
        if now - self.since >= self.limits.stall:
            if self.count < self.limits.least_bytes:
                raise _DripError
            self.since, self.count = now, 0


def _range_start(value: str | None) -> int | None:
    found = re.match(r"bytes (\d+)-", value or "")
    return int(found[1]) if found else None


def _md5(headers: HTTPMessage) -> str | None:
    """The MD5 in the header of Google's storage (``x-goog-hash``) or in ``Content-MD5``, in hex."""
    stated = re.search(r"md5=([A-Za-z0-9+/=]{24})", ",".join(headers.get_all("x-goog-hash") or []))
    value = stated[1] if stated else headers.get("Content-MD5", "")
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == 16 else None


__all__ = ["DownloadLimits", "Fetch", "Progress", "SameKindRedirects", "disk_reason"]
