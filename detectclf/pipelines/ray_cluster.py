"""Connecting to a Ray cluster, or to one of this machine alone; and what its nodes have."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

from detectclf.config import PredictConfig, ShardConfig
from detectclf.cores import usable_cores
from detectclf.errors import ConfigError, DeviceError

log = logging.getLogger(__name__)

_CONNECT_S = 5.0
_ANSWER_S = 20.0
_CHECK_EVERY_S = 5.0
_FAILED_CHECKS = 3
_CHECK = "check --ray-address and `ray status`"


def check_ray(shards: ShardConfig) -> None:
    """Checks what can be checked before any work.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    if find_spec("ray") is None:
        raise ConfigError("the engine ray is not installed", remedy="pip install 'detectclf[ray]'")
    address = _address(shards) or ""
    if "://" in address:
        raise ConfigError(
            f"ray_address: {address.partition('://')[0]}:// (Ray's client) is not supported",
            remedy="name the cluster itself, such as 10.0.0.1:6379, or start this command there by `ray job submit`",
        )
    _check_listens(address)


def _address(shards: ShardConfig) -> str | None:
    return shards.ray_address or os.environ.get("RAY_ADDRESS")


def _said(address: str) -> str:
    """An address without what may be a secret."""
    return address.rpartition("@")[2]


def _check_listens(address: str) -> None:
    # Ray itself tries for minutes, line by line, and may end the process.
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = f"nobody listens at {_said(address)}"
        raise ConfigError(reason, remedy="start the cluster (`ray start --head`), or check --ray-address") from error
    words = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check", "--address", address]
    try:
        subprocess.run(words, capture_output=True, check=True, timeout=_ANSWER_S)
    except (subprocess.SubprocessError, OSError) as error:
        reason = f"what listens at {_said(address)} does not answer as a Ray cluster does"
        raise ConfigError(reason, remedy=_CHECK) from error


@contextmanager
def connected(shards: ShardConfig) -> Iterator[None]:
    """Inside the context, a connection to the cluster that is asked for, or to one of this machine alone.

    What Ray would print on stdout, such as of workers that were lost, goes to stderr meanwhile.

    Raises:
        ConfigError: there is no cluster.
    """
    address = _address(shards)
    # Ray sends figures of its use unless it is told not to before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:
        # Else its workers give way to everything else on this machine, unlike the local engine.
        os.environ.setdefault("RAY_worker_niceness", "0")
    # Its processes write lines that mean nothing to users between ours; this leaves one, which says that it is set.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    if ray.is_initialized():  # by the program that uses the library
        yield
        return
    with redirect_stdout(sys.stderr):
        _connect(address)
        ended = threading.Event()
        watched = (ray.get_runtime_context().gcs_address, ended)
        threading.Thread(target=_watch, args=watched, name="ray-head", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            ray.shutdown()


def _watch(head: str, ended: threading.Event) -> None:
    """Says that the head of the cluster is gone: Ray ends the process a minute later, with exit code 1 and no word."""
    host, _, port = head.rpartition(":")
    failed = 0
    while failed < _FAILED_CHECKS and not ended.wait(_CHECK_EVERY_S):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
            failed = 0
        except OSError:
            failed += 1
    if not ended.is_set():
        log.warning("%s: the head of the Ray cluster is gone; Ray ends this command; start a cluster, --resume", head)


def _connect(address: str | None) -> None:
    import ray

    options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        options |= {"num_cpus": usable_cores(), "include_dashboard": False}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:  # of many types, Exception itself where a node does not start in time
        kind = type(error).__name__
        if address:
            raise ConfigError(f"no Ray cluster at {_said(address)} ({kind})", remedy=_CHECK) from error
        reason = f"Ray does not start on this machine ({kind})"  # within 30 s, which Ray has fixed
        raise ConfigError(reason, remedy="try again when it is less busy, or use --engine local") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # which Ray has taken


def actor_size(config: PredictConfig, shards: ShardConfig) -> dict[str, float]:
    """CPUs and GPUs of an actor: what is asked for, at most what the largest node has.

    Raises:
        DeviceError: no node has a GPU, and one is asked for.
    """
    import ray

    has = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = min(shards.ray_cpus, max((each.get("CPU", 0.0) for each in has), default=0.0))
    if not config.device.startswith("cuda"):
        return {"num_cpus": cpus}
    if not any(each.get("GPU") for each in has):
        raise DeviceError("no node of the cluster has a GPU", remedy="use --device cpu")
    return {"num_cpus": cpus, "num_gpus": 1}


__all__ = ["actor_size", "check_ray", "connected"]
