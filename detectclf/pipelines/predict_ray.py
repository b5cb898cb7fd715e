"""The parts of a sharded prediction on Ray Data: a pool of actors, each of which holds one predictor.

A row of the data set is the number of a part. An actor reads the part's plan, predicts and writes its files, and hands
back what it wrote; pictures and records never pass through Ray's object store or the driver. Actors and tasks that are
lost with their worker or node are started again by Ray.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detectclf.config import PredictConfig, ShardConfig
from detectclf.cores import usable_cores
from detectclf.errors import ConfigError, DetectclfError, DeviceError
from detectclf.pipelines.predict_types import Engine
from detectclf.storage import StoredFolder
from detectclf.version import __version__

_MOST_BLOCKS = 20_000
_CONNECT_S = 5.0
_ANSWER_S = 20.0


class _Worker:
    """An actor: a predictor of the driver's model, which is sent to it, since another node may not have its files."""

    def __init__(self, model: list[Any], config: str, out: str, frame: int | None, axis: str | None) -> None:
        import ray

        from detectclf.inference.predictor import Predictor
        from detectclf.models.bundle import load_bundle

        version, files = ray.get(model[0])
        if version != __version__:
            raise ConfigError(
                f"a node has detectclf {__version__}, the driver {version}", remedy="install one version on all nodes"
            )
        self._folder = tempfile.TemporaryDirectory(prefix="detectclf-")
        for name, content in files.items():
            Path(self._folder.name, name).write_bytes(content)
        self._predictor = Predictor(load_bundle(Path(self._folder.name)), PredictConfig.model_validate_json(config))
        self._out, self._frame, self._axis = StoredFolder(out), frame, axis

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Predicts the parts of a batch, normally one."""
        from detectclf.inference.part import predict_part

        numbers = [int(number) for number in batch["part"]]
        done = [predict_part(self._predictor, self._out, number, self._frame, self._axis) for number in numbers]
        return {"done": [json.dumps(each) for each in done]}


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
            f"{_said(address)}: Ray's client is not supported",
            remedy="name the cluster itself, such as 10.0.0.1:6379, or start this command there by `ray job submit`",
        )
    _check_listens(address)


def _address(shards: ShardConfig) -> str | None:
    return shards.ray_address or os.environ.get("RAY_ADDRESS")


@contextmanager
def ray_engine(
    folder: StoredFolder,
    config: PredictConfig,
    shards: ShardConfig,
    model: Path | None,
    frame: int | None,
    axis: str | None,
) -> Iterator[Engine]:
    """Inside the context, an engine of actors; arguments as of :mod:`detectclf.pipelines.predict_shards`.

    Raises:
        ConfigError: there is no cluster.
        DeviceError: it has no GPU, and one is asked for.
    """
    from detectclf.inference.loading import default_bundle

    bundle = default_bundle() if model is None else model
    files = {file.name: file.read_bytes() for file in sorted(bundle.iterdir()) if file.is_file()}

    with _connected(_address(shards)):
        import ray

        yield _predicting(
            _sized(config, shards),
            model=[ray.put((__version__, files))],
            config=config.model_dump_json(),
            out=folder.name,
            frame=frame,
            axis=axis,
        )


def _predicting(sized: dict[str, float], **of_worker: Any) -> Engine:
    """An engine of actors of one size; arguments of :class:`_Worker`."""

    def predict(parts: Sequence[int]) -> Iterator[dict[str, Any]]:
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        rows = ray.data.from_items(
            [{"part": number} for number in parts], override_num_blocks=min(len(parts), _MOST_BLOCKS)
        )
        found = rows.map_batches(
            _Worker,
            batch_size=1,
            compute=ActorPoolStrategy(min_size=1, max_size=len(parts), max_tasks_in_flight_per_actor=2),
            fn_constructor_kwargs=of_worker,
            # Tasks are tried without limit, as by default: until a node is known to be lost, many attempts fail.
            **sized,
        )
        try:
            for row in found.iter_rows():
                yield json.loads(row["done"])
        except ray.exceptions.RayError as error:
            raise _own_error(error) from error

    return predict


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Inside the context, a connection to the cluster at ``address``, or to one of this machine alone."""
    # Ray sends figures of its use unless it is told not to before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:
        # Else its workers give way to everything else on this machine, unlike the local engine.
        os.environ.setdefault("RAY_worker_niceness", "0")
    # Its processes write lines that mean nothing to users between ours; this leaves one, which says that it is set.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        options |= {"num_cpus": usable_cores(), "include_dashboard": False}
    if ray.is_initialized():  # by the program that uses the library
        yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:  # of many types, Exception itself where a node does not start in time
        where = _said(address) if address else "this machine"
        raise ConfigError(
            f"no Ray cluster at {where} ({type(error).__name__})", remedy="check --ray-address and `ray status`"
        ) from error
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # which Ray has taken
        yield
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    # Ray itself tries for minutes, line by line, and may end the process.
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal():
        return
    said = _said(address)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = f"nobody listens at {said}"
        raise ConfigError(reason, remedy="start the cluster (`ray start --head`), or check --ray-address") from error
    words = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check", "--address", address]
    try:
        subprocess.run(words, capture_output=True, check=True, timeout=_ANSWER_S)
    except (subprocess.SubprocessError, OSError) as error:
        reason = f"what listens at {said} does not answer as a Ray cluster does"
        raise ConfigError(reason, remedy="check --ray-address and `ray status`") from error


def _said(address: str) -> str:
    """An address without what may be a secret."""
    return address.rpartition("@")[2]


def _sized(config: PredictConfig, shards: ShardConfig) -> dict[str, float]:
    """CPUs and GPUs of an actor: what is asked for, at most what the largest node has."""
    import ray

    has = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = min(shards.ray_cpus, max((each.get("CPU", 0.0) for each in has), default=0.0))
    if not config.device.startswith("cuda"):
        return {"num_cpus": cpus}
    if not any(each.get("GPU") for each in has):
        raise DeviceError("no node of the cluster has a GPU", remedy="use --device cpu")
    return {"num_cpus": cpus, "num_gpus": 1}


def _own_error(error: BaseException) -> DetectclfError:
    """What an actor raised, or what Ray says of a part that could not be predicted."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DetectclfError):
            return cause
        inner = getattr(cause, "cause", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    reason = f"Ray gave up: {last[0]}"
    return ConfigError(reason, remedy="finished parts are kept; see Ray's logs, then go on with --resume")


__all__ = ["check_ray", "ray_engine"]
