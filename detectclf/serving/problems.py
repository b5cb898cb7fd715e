"""Refusals and errors of the API as problem details (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from detectclf.errors import one_line

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """An answer other than the one that was asked for.

    Args:
        status: of HTTP.
        code: what went wrong, for programs, such as ``queue_full``.
        detail: one line for people: reason and remedy.
        headers: of the answer, such as ``Retry-After``.
        members: further members of the document.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.detail = status, code, one_line(detail)
        self.headers, self.members = headers or {}, members

    def document(self) -> dict[str, Any]:
        """The members of the problem details."""
        title = HTTPStatus(self.status).phrase
        about = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return {**about, "code": self.code, **self.members}

    def response(self) -> JSONResponse:
        """The answer."""
        # Else the rest of the body is read and dropped: of a closed connection, clients that are still sending would
        # not hear why.
        headers = {**self.headers, **({"Connection": "close"} if self.status == 408 else {})}
        return JSONResponse(self.document(), self.status, headers=headers, media_type=MEDIA_TYPE)


def busy(code: str, detail: str, seconds: int) -> ProblemError:
    """429 with ``Retry-After``."""
    return ProblemError(429, code, detail, headers={"Retry-After": str(seconds)})


def internal_error(error: Exception) -> ProblemError:
    """500, for a fault of this program."""
    # No message of the error, which may hold the name of a file, and so of a patient.
    log.error("internal error: %s; --verbose says where", type(error).__name__)
    log.debug("traceback", exc_info=True)
    return ProblemError(500, "internal_error", f"internal error: {type(error).__name__}; report it")


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """Handler of :class:`ProblemError` and of the framework's own errors."""
    if isinstance(error, ProblemError):
        return error.response()
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).name.lower()
        detail = f"{error.detail}; see /docs"
        return ProblemError(error.status_code, code, detail, headers=dict(error.headers or {})).response()
    return ProblemError(422, "invalid_request", "a parameter is missing or invalid; see /docs").response()


__all__ = ["MEDIA_TYPE", "ProblemError", "answer_problem", "busy", "internal_error"]
