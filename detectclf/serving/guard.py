"""What every request has to pass before any route: the right host, no foreign origin, the token, and for files a place
among those that are worked on; and safe headers.

A page on the web can make a browser send requests to this machine, and by DNS rebinding even read the answers under a
name of its own. The names by which a server may be called stop the second, the check of ``Origin`` the first.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket
import time
from collections.abc import MutableMapping
from contextlib import nullcontext
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detectclf.serving.problems import ProblemError, internal_error
from detectclf.serving.service import Service

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
"""What needs no token, beside style and scripts under ``/static/``: nothing of it tells anything of a picture."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def host_name(netloc: str) -> str | None:
    """The name in ``NAME:PORT``, in lower case and without brackets; ``None`` where it is none."""
    name, colon, port = netloc.strip().lower().rpartition(":")
    if not colon or "]" in port:  # no port
        name, port = netloc.strip().lower(), "0"
    if name.startswith("[") != name.endswith("]") or (":" in name and not name.startswith("[")):
        return None
    name = name.strip("[]").removesuffix(".")
    return name if name and port.isdecimal() and not set(name) & set("/\\@?# ") else None


class Guard:
    """ASGI application around another.

    Args:
        app: the application.
        service: host, further names and token; places for requests with files; counts the answers.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self._service = app, service
        config = service.config
        secret = config.token
        self._token = None if secret is None else secret.get_secret_value().encode("ascii")
        self._names = {*LOOPBACK_NAMES, *(name.lower() for name in (config.host, *config.allowed_hosts))}
        self._open = not is_loopback(config.host)
        if self._open:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        started = time.perf_counter()
        try:
            self._check(scope)
            with self._service.place() if scope["method"] == "POST" else nullcontext():
                await self.app(scope, receive, answer.send)
        except Exception as error:
            problem = error if isinstance(error, ProblemError) else internal_error(error)
            if answer.status == 0:
                await problem.response()(scope, receive, answer.send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            seconds = time.perf_counter() - started
            self._service.metrics.request(route, method, answer.status, seconds)
            log.debug("%s %s: %d in %.3f s", method, route, answer.status, seconds)

    def _check(self, scope: Scope) -> None:
        """Raises ProblemError where a request is refused."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._is_ours(name):
            detail = "the server is not called by this name; use its address, or start it with --allow-host NAME"
            raise ProblemError(421, "wrong_host", detail)
        site = headers.get("sec-fetch-site", "none")
        foreign = site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"
        origin = headers.get("origin")
        if foreign or (origin is not None and origin.lower() not in _own_origins(hosts[0])):
            raise ProblemError(403, "foreign_origin", "pages from elsewhere may not use this server; open its own page")
        open_path = scope["path"] in OPEN_PATHS or scope["path"].startswith("/static/")
        if self._token is not None and not open_path and not self._has_token(headers):
            detail = "the token is missing or wrong; send Authorization: Bearer TOKEN"
            raise ProblemError(401, "wrong_token", detail, headers={"WWW-Authenticate": "Bearer"})

    def _is_ours(self, name: str) -> bool:
        # No name of a foreign site can be an address, so with a token any address will do: a machine has several.
        return name in self._names or (self._open and _is_address(name))

    def _has_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Headers are decoded as Latin-1, which this undoes whatever came.
        same = hmac.compare_digest(given.strip().encode("latin-1"), self._token or b"")
        return kind.lower() == "bearer" and same


class _Answer:
    """Adds the headers to an answer, and remembers its status; 0 before it starts."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            _add_headers(message)
        await self._send(message)


def _add_headers(message: MutableMapping[str, Any]) -> None:
    own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
    message["headers"] = [*message.get("headers", ()), *own]


def _own_origins(host: str) -> set[str]:
    return {f"{scheme}://{host.strip().lower()}" for scheme in ("http", "https")}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


__all__ = ["OPEN_PATHS", "Guard", "host_name", "is_loopback"]
