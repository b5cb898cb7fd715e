"""The server: its socket, impatience with slow clients, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from detectclf.config import ServeConfig
from detectclf.errors import ConfigError
from detectclf.serving.app import create_app
from detectclf.serving.service import Service

_TELLING = (
    *("uvicorn", "py.warnings", "pydicom", "nibabel.global"),
    *("detectclf.imaging", "detectclf.inference.volumes"),  # they name files, which are often called after patients
)
"""Loggers that are silent in a server."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 2048
_MOST_FILES = 65_536


def listen(config: ServeConfig) -> socket.socket:
    """A socket at the address of ``config``.

    Raises:
        ConfigError: it is taken, not of this machine, or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "choose another --port, or stop what listens there; --host has to be an address of this machine"
        raise ConfigError(f"cannot listen on {config.host} port {config.port} ({reason})", remedy=remedy) from error


def url_of(listener: socket.socket) -> str:
    """The address of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def run(service: Service, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until SIGTERM or Ctrl+C. Requests that were received until then are answered first.

    Args:
        service: the model; closed at the end.
        listener: where to listen.
        ready: called once requests are answered.
    """
    _allow_many_connections()
    # They may cite headers of files, and so patients; uvicorn also tells of every client that breaks off.
    logging.captureWarnings(True)
    for name in _TELLING:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = _Config(
        create_app(service),
        http=_ImpatientProtocol,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(1, int(service.config.idle_timeout)),
        timeout_graceful_shutdown=int(service.config.timeout + service.config.upload_timeout) + 1,
    )
    config.head_timeout = service.config.idle_timeout
    _Server(config, service, ready).run([listener])


def _allow_many_connections() -> None:
    """Raises the number of open files, of which many systems give 1,024: a client more would wait for another to go."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are not counted so
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class _Config(uvicorn.Config):
    head_timeout: float = 10.0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._ready = service, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, as if the process had been killed.
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.draining = True
        super().handle_exit(sig, frame)


class _ImpatientProtocol(H11Protocol):
    """Ends connections whose next request does not come whole in time, or whose answer is not taken.

    uvicorn would keep both for ever, and with the second a place among the requests that are worked on.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._between_requests():
            self._wait_for_head()
        elif self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._patience, self._taking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        # Not closed, since that waits until the client has taken all.
        self._taking = self.loop.call_later(self._seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    @property
    def _seconds(self) -> float:
        return self.config.head_timeout if isinstance(self.config, _Config) else _Config.head_timeout

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self._seconds, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        if self._between_requests() and not self.transport.is_closing():
            self.transport.abort()


__all__ = ["listen", "run", "url_of"]
