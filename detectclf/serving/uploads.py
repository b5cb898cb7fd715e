"""Receives the files of a request into memory, within limits, and finds the pictures in zip archives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from detectclf.config import ServeConfig
from detectclf.errors import DataError, DetectclfError, one_line
from detectclf.formats.archive import Member, ZipLimits, members
from detectclf.imaging.images import image_suffix
from detectclf.serving.batching import Upload
from detectclf.serving.problems import ProblemError, busy

_LONGEST_NAME = 200
_ZIP = b"PK\x03\x04"
_MOST_ENTRIES = 20_000


@dataclass(slots=True, eq=False)
class Intake:
    """What is being received now, of all requests; used in the event loop alone.

    Attributes:
        config: the limits.
        held_bytes: how much has come.
    """

    config: ServeConfig
    held_bytes: int = 0

    async def uploads(self, request: Request, most: int | None = None) -> list[Upload]:
        """The files of a multipart request, archives unpacked.

        Args:
            request: whose body is read.
            most: files; by default as configured.

        Raises:
            ProblemError: it is no such request, or it is over a limit of size, number, time or memory.
        """
        most = most or self.config.max_files
        body = _Body(request, self)
        try:
            files = await asyncio.wait_for(self._files(request, body, most), self.config.upload_timeout)
            return await run_in_threadpool(_unpacked, files, self.config, most)
        except asyncio.TimeoutError:
            limit = self.config.upload_timeout
            raise ProblemError(408, "upload_too_slow", f"not received within {limit:g} s; send fewer files") from None
        finally:
            self.held_bytes -= body.received

    async def _files(self, request: Request, body: _Body, most: int) -> list[_File]:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise ProblemError(415, "not_multipart", "send the files as multipart/form-data, in fields called files")
        parser = _InMemory(request.headers, body.chunks(), max_files=most, max_fields=0)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            many = "Too many files" in error.message
            detail = "another field than files came" if "Too many fields" in error.message else error.message
            raise ProblemError(
                413 if many else 400, "too_many_files" if many else "bad_multipart", f"{detail.rstrip('.')}; see /docs"
            ) from error
        except ClientDisconnect as error:
            raise ProblemError(400, "cut_short", "the connection ended before the request did") from error
        try:
            files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
            if not files:
                raise ProblemError(400, "no_files", "there is no file; send some, in fields called files")
            return [_File(*_names_of(file.filename or ""), await self._content(file)) for file in files]
        finally:
            await form.close()

    async def _content(self, file: UploadFile) -> bytes:
        name, limit = file_name(file.filename or ""), self.config.max_file_bytes
        if (file.size or 0) > limit:
            raise ProblemError(413, "file_too_large", f"{name}: larger than {limit} bytes; send a smaller file")
        content = await file.read()
        await file.close()  # now and not with the others, so that it is not in memory twice
        return content


class _File(NamedTuple):
    """An uploaded file: its name, the folder that the client had it in, if it says so, and its content."""

    name: str
    folder: str
    content: bytes


class _InMemory(MultiPartParser):
    # Never rolled over to a file: what was uploaded does not touch a disk.
    spool_max_size = 2**62


@dataclass(slots=True, eq=False)
class _Body:
    """The body of a request, counted while it comes."""

    request: Request
    intake: Intake
    received: int = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        config = self.intake.config
        declared = self.request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > config.max_request_bytes:
            raise _too_large(config)
        stream = self.request.stream()
        while True:
            try:
                chunk = await asyncio.wait_for(anext(stream), config.idle_timeout)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError:
                detail = f"nothing came for {config.idle_timeout:g} s; send it again"
                raise ProblemError(408, "upload_stalled", detail) from None
            self.received += len(chunk)
            self.intake.held_bytes += len(chunk)
            if self.received > config.max_request_bytes:
                raise _too_large(config)
            if self.intake.held_bytes > config.max_memory_bytes:
                raise busy("out_of_memory", "the uploads of all requests take too much memory; try again", 5)
            yield chunk


def _too_large(config: ServeConfig) -> ProblemError:
    detail = f"the request is larger than {config.max_request_bytes} bytes; send fewer files at once"
    return ProblemError(413, "request_too_large", detail)


def file_name(given: str) -> str:
    """The last part of a path as a client gave it, on one line; ``upload`` where it gave none."""
    return _names_of(given)[0]


def _names_of(given: str) -> tuple[str, str]:
    """Name and folder in a path as a client gave it."""
    folder, _, last = given.replace("\\", "/").rstrip("/").rpartition("/")
    return one_line(last)[:_LONGEST_NAME] or "upload", folder


def _unpacked(files: list[_File], config: ServeConfig, most: int) -> list[Upload]:
    """The pictures of all files; raises ProblemError where they are more than ``most``."""
    uploads: list[Upload] = []
    for file in files:
        uploads += _pictures(file, config) if file.content.startswith(_ZIP) else [_plain(file)]
        if len(uploads) > most:
            raise ProblemError(413, "too_many_files", f"more than {most} pictures; send fewer in a request")
    return uploads


def _plain(file: _File) -> Upload:
    return Upload(file.name, len(file.content), lambda: file.content, file.folder)


def _pictures(file: _File, config: ServeConfig) -> list[Upload]:
    """The pictures of an archive, or one upload that fails with the reason why it was refused."""
    name, content = file.name, file.content
    try:
        limits = ZipLimits(_MOST_ENTRIES, config.max_file_bytes, config.max_unpacked_bytes)
        found = [each for each in members(content, name, limits) if _is_picture(each)]
        if not found:
            raise DataError("there is no picture in it", file=name, remedy="pack image files")
    except DetectclfError as error:
        return [Upload(name, 0, partial(_fail, error))]
    share = len(content) // len(found)
    uploads = []
    for each in found:
        inner = each.name.replace("\\", "/").lstrip("/")
        folder = f"{file.folder}/{name}/{inner.rpartition('/')[0]}"
        uploads.append(Upload(f"{name}/{one_line(inner)[-_LONGEST_NAME:]}", share, each.read, folder))
    return uploads


def _fail(error: DetectclfError) -> bytes:
    raise error


def _is_picture(member: Member) -> bool:
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    try:
        return image_suffix(member.name) is not None or member.head()[128:132] == b"DICM"
    except DetectclfError:
        return False


__all__ = ["Intake", "file_name"]
