"""The parts of a sharded prediction on Ray Data: a pool of actors, each of which holds one predictor.

A row of the data set is the number of a part. An actor reads the part's plan, predicts and writes its files, and hands
back what it wrote; pictures and records never pass through Ray's object store or the driver. Actors and tasks that are
lost with their worker or node are started again by Ray.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectclf.config import PredictConfig, ShardConfig
from detectclf.errors import (
    ConfigError,
    DataError,
    DetectclfError,
    DeviceError,
    ModelError,
    StorageError,
    UnsafeError,
)
from detectclf.pipelines.predict_types import Engine
from detectclf.pipelines.ray_cluster import actor_size, connected
from detectclf.storage import StoredFolder
from detectclf.version import __version__

_MOST_BLOCKS = 20_000
_ERRORS = (ConfigError, DataError, DeviceError, ModelError, StorageError, UnsafeError)
_GO_ON = "finished parts are kept; see Ray's logs, then go on with --resume"


class _Worker:
    """An actor: a predictor of the driver's model, which is sent to it, since another node may not have its files.

    Errors are handed back like results: what Ray makes of an exception differs from version to version, and loses what
    it was.
    """

    def __init__(self, **arguments: Any) -> None:
        self._failed: dict[str, Any] | None = None
        try:
            self._open(**arguments)
        except Exception as error:
            self._failed = _to_row(error)

    def _open(self, model: list[Any], config: str, out: str, frame: int | None, axis: str | None) -> None:
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
        return {"done": [json.dumps(self._predicted(int(number))) for number in batch["part"]]}

    def _predicted(self, number: int) -> dict[str, Any]:
        from detectclf.inference.part import predict_part

        if self._failed is not None:
            return self._failed
        try:
            return predict_part(self._predictor, self._out, number, self._frame, self._axis)
        except Exception as error:
            return _to_row(error)


def _to_row(error: Exception) -> dict[str, Any]:
    if not isinstance(error, DetectclfError):
        return {"raised": None, "reason": f"{type(error).__name__}: {error}"}
    said = {"reason": error.reason, "line": error.line, "remedy": error.remedy}
    return {"raised": type(error).__name__, **said, "file": None if error.file is None else str(error.file)}


def _from_row(row: dict[str, Any]) -> DetectclfError:
    """The error that :func:`_to_row` wrote."""
    kind: type[DetectclfError] | None = {each.__name__: each for each in _ERRORS}.get(row["raised"])
    if kind is None:
        return ConfigError(f"a worker failed ({row['reason']})", remedy=_GO_ON)
    return kind(row["reason"], file=row["file"], line=row["line"], remedy=row["remedy"])


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

    with connected(shards):
        import ray

        yield _predicting(
            actor_size(config, shards),
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
                done = json.loads(row["done"])
                if "raised" in done:
                    raise _from_row(done)
                yield done
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ConfigError(f"Ray gave up: {last[0]}", remedy=_GO_ON) from error

    return predict


__all__ = ["ray_engine"]
