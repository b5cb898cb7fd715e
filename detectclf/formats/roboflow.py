"""Downloads a data set version by Roboflow's REST API.

``GET {api}/{workspace}/{project}/{version}/{format}?api_key=KEY`` answers 202 with ``{"progress": 0.4}`` while Roboflow
prepares the export, then 200 with ``{"export": {"link": URL}}``; the zip at the link is downloaded without the key.
(Roboflow documentation, "Exporting data"; Roboflow's own Python package makes the same calls.)

The key comes only from the environment variable ``ROBOFLOW_API_KEY``. The API takes it in the URL, so no URL is ever
printed, logged or put into an error. ``DETECTCLF_ROBOFLOW_URL`` sets another server, for tests and mirrors.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from detectclf.errors import DataError, UnsafeError
from detectclf.files import atomic_folder
from detectclf.formats.archive import ZipLimits, unpack

API_BASE = "https://api.roboflow.com"
KEY_VARIABLE = "ROBOFLOW_API_KEY"
URL_VARIABLE = "DETECTCLF_ROBOFLOW_URL"

Progress = Callable[[str, float], Any]
"""Called with the stage (``export``, ``download`` or ``unpack``) and its progress, 0 to 1."""

_BLOCK = 1 << 18
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Limits of a download.

    Attributes:
        archive_bytes: most bytes of the zip.
        archive: limits of its content.
        tries: failed attempts in a row, without any new bytes, before giving up.
        timeout: seconds to wait for an answer.
        export_wait: seconds to wait until Roboflow has prepared the export.
        pause: seconds between two requests for the export, and before another attempt.
    """

    archive_bytes: int = 32 * 2**30
    archive: ZipLimits = field(default_factory=ZipLimits)
    tries: int = 4
    timeout: float = 30.0
    export_wait: float = 900.0
    pause: float = 2.0


def download(
    spec: str,
    out: str | Path,
    *,
    format: str = "coco",
    progress: Progress | None = None,
    limits: DownloadLimits | None = None,
) -> Path:
    """Downloads a data set version and unpacks it into the new folder ``out``.

    The archive is unpacked into a temporary folder beside ``out``, which is then renamed; a failure leaves nothing.
    After a lost connection, the download resumes where the server allows it, and else starts again.

    Args:
        spec: ``WORKSPACE/PROJECT/VERSION``.
        out: folder to make; must not exist, or be empty.
        format: Roboflow's name of an export format.
        progress: called with the progress.
        limits: sizes and times.

    Returns:
        ``out`` as a path.

    Raises:
        DataError: no key, key refused, no such version, export not ready in time, connection lost, damaged archive,
            disk full, or ``out`` is not an empty folder.
        UnsafeError: an archive that is too large or hostile.
    """
    limits, target = limits or DownloadLimits(), Path(out)
    parts = [*spec.strip("/").split("/"), format]
    if len(parts) != 4 or not all(_NAME.fullmatch(part) for part in parts):
        raise DataError(f"{spec!r} is not WORKSPACE/PROJECT/VERSION", remedy="copy it from the version's page")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise DataError(f"{KEY_VARIABLE} is not set", remedy="put your Roboflow API key into this variable")
    base = (os.environ.get(URL_VARIABLE) or API_BASE).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise DataError("the address of the server is not http or https", remedy=f"correct {URL_VARIABLE}")
    report = progress or (lambda stage, share: None)
    try:
        with atomic_folder(target) as folder, TemporaryDirectory(prefix=".download.", dir=target.parent) as packed:
            link = _export_link(base, parts, key, limits, report)
            archive = Path(packed) / "export.zip"
            _Fetch(link, archive, limits, report).run()
            report("unpack", 0.0)
            unpack(archive, folder, limits.archive)
            report("unpack", 1.0)
    except OSError as error:
        raise DataError(_disk_reason(error), file=target, remedy="free some space or choose another folder") from None
    return target


def _disk_reason(error: OSError) -> str:
    return (
        "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"cannot be written ({error.strerror})"
    )


def _export_link(base: str, parts: list[str], key: str, limits: DownloadLimits, report: Progress) -> str:
    """Requests the export until it is ready, and returns the link to the zip."""
    url = f"{base}/{'/'.join(quote(part) for part in parts)}?{urlencode({'api_key': key})}"
    name = "/".join(parts[:3])
    deadline = time.monotonic() + limits.export_wait
    while True:
        status, answer = _ask(url, name, limits)
        export = answer.get("export")
        link = export.get("link") if isinstance(export, dict) else None
        if status == 200 and isinstance(link, str):
            scheme = urlsplit(link).scheme
            if scheme not in ("http", "https") or (scheme == "http" and base.startswith("https:")):
                raise UnsafeError(
                    f"{name}: the link to the export is not a safe web address", remedy="check the network"
                )
            return link
        if status == 200 and answer.get("progress") is None:
            raise DataError(f"{name}: the server sent no link to the export", remedy="try again later")
        share = answer.get("progress")
        report("export", float(share) if isinstance(share, (int, float)) and math.isfinite(share) else 0.0)
        if time.monotonic() >= deadline:
            raise DataError(f"{name}: the export is not ready after {limits.export_wait:g} s", remedy="try again later")
        time.sleep(limits.pause)


def _ask(url: str, name: str, limits: DownloadLimits) -> tuple[int, dict[str, Any]]:
    reason = "no answer"
    for attempt in range(limits.tries):
        if attempt:
            time.sleep(limits.pause)
        try:
            with _opener().open(Request(url), timeout=limits.timeout) as response:
                answer = json.loads(response.read(_BLOCK))
                return int(response.status), answer if isinstance(answer, dict) else {}
        # Causes are not chained, because their text or URL may contain the key.
        except HTTPError as error:
            error.close()
            if error.code in (401, 403):
                raise DataError(
                    f"Roboflow refuses the key for {name}", remedy=f"check {KEY_VARIABLE} and its permissions"
                ) from None
            if error.code == 404:
                raise DataError(
                    f"no such workspace, project, version or format: {name}", remedy="check its name"
                ) from None
            if error.code < 500 and error.code != 429:
                raise DataError(f"Roboflow answers {error.code} for {name}", remedy="check its name") from None
            reason = f"the server answers {error.code}"
        except (OSError, HTTPException):
            reason = "no connection"
        except (ValueError, RecursionError):
            reason = "the answer is not JSON"
    raise DataError(f"{name}: {reason} after {limits.tries} attempts", remedy="check the network, or try again later")


class _SameKindRedirects(HTTPRedirectHandler):
    """Follows redirects, except to files, to FTP, and from https to http."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise UnsafeError("the server redirects to an unsafe address", remedy="check the network")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    return build_opener(_SameKindRedirects)


class _Fetch:
    """Downloads one file over HTTP, with resume, size limit and checksum."""

    def __init__(self, url: str, file: Path, limits: DownloadLimits, report: Progress) -> None:
        self.url, self.file, self.limits, self.report = url, file, limits, report
        self.total: int | None = None
        self.md5: str | None = None
        self.tag: str | None = None

    def run(self) -> None:
        failures = 0
        while failures < self.limits.tries:
            before = self._size()
            if failures:
                time.sleep(self.limits.pause)
            try:
                self._attempt(before)
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
            except (OSError, HTTPException):
                pass  # only the network: a failure of the disk is a DataError already
            failures = 0 if self._size() > before else failures + 1
        raise DataError("connection lost", remedy="start the download again")

    def _size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def _attempt(self, have: int) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and self.tag:
            headers["If-Range"] = self.tag  # a file that has changed since is sent from its start
        with _opener().open(Request(self.url, headers=headers), timeout=self.limits.timeout) as response:
            resumed = response.status == 206 and _range_start(response.headers.get("Content-Range")) == have
            if response.status == 206 and not resumed:
                self.file.unlink(missing_ok=True)
                raise ConnectionError("the server sent a part that was not requested")
            self._note(response.headers, have if resumed else 0)
            size = have if resumed else 0
            self._store(b"", "ab" if resumed else "wb")
            while block := response.read(_BLOCK):
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
                _disk_reason(error), file=self.file.parent.parent, remedy="free some space or choose another folder"
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
