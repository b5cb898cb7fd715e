"""Downloads a data set version by Roboflow's REST API.

``GET {api}/{workspace}/{project}/{version}/{format}?api_key=KEY`` answers 202 with ``{"progress": 0.4}`` while Roboflow
prepares the export, then 200 with ``{"export": {"link": URL}}``; the zip at the link is downloaded without the key.
(Roboflow documentation, "Exporting data"; Roboflow's own Python package makes the same calls.)

The key comes only from the environment variable ``ROBOFLOW_API_KEY``. The API takes it in the URL, so no URL is ever
printed, logged or put into an error. ``DETECTCLF_ROBOFLOW_URL`` sets another server, for tests and mirrors.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import Request, build_opener

from detectclf.deadlines import within
from detectclf.errors import DataError, UnsafeError
from detectclf.files import atomic_folder
from detectclf.formats.archive import unpack
from detectclf.formats.fetch import DownloadLimits, Fetch, Progress, SameKindRedirects, disk_reason

API_BASE = "https://api.roboflow.com"
KEY_VARIABLE = "ROBOFLOW_API_KEY"
URL_VARIABLE = "DETECTCLF_ROBOFLOW_URL"

_BLOCK = 1 << 18
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
        with atomic_folder(target) as folder:
            link = _export_link(base, parts, key, limits, report)
            archive = folder / ".export.zip"  # hidden: nothing in the archive may have such a name
            Fetch(link, archive, limits, report).run()
            report("unpack", 0.0)
            unpack(archive, folder, limits.archive)
            archive.unlink()
            report("unpack", 1.0)
    except OSError as error:
        raise DataError(disk_reason(error), file=target, remedy="free some space or choose another folder") from None
    return target


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
            if key in unquote(link):
                raise UnsafeError(f"{name}: the link to the export repeats the key", remedy="check the network")
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
            status, content = within(2 * limits.timeout, lambda: _answer(url, limits.timeout))
            answer = json.loads(content)
            return status, answer if isinstance(answer, dict) else {}
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


def _answer(url: str, timeout: float) -> tuple[int, bytes]:
    with build_opener(_SameHostRedirects).open(Request(url), timeout=timeout) as response:
        return int(response.status), response.read(_BLOCK)


class _SameHostRedirects(SameKindRedirects):
    """Follows no redirect to another host or port either: the address has the key in it."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            fp.close()
            raise UnsafeError("the server redirects a request with the key to another host", remedy="check the network")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
