"""``predict`` in shards: the plan, the parts that are not finished, by whichever engine, and the manifest."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from detectclf.config import PredictConfig, ShardConfig
from detectclf.errors import ConfigError, DataError
from detectclf.pipelines.predict_types import Engine, Predicted
from detectclf.progress import Progress
from detectclf.signals import ended_like_interrupted
from detectclf.storage import StoredFolder, is_uri, shown

log = logging.getLogger(__name__)


def predict_shards(
    inputs: Sequence[str],
    config: PredictConfig,
    shards: ShardConfig,
    *,
    model: Path | None = None,
    out: str,
    frame: int | None = None,
    axis: str | None = None,
    resume: bool = False,
) -> Predicted:
    """Predicts into the shards of ``out``, a folder or URI; :mod:`detectclf.inference.shards` says what lies there.

    Local names are written as absolute paths, since the workers of a cluster have other working directories.

    Args:
        inputs: as of :func:`detectclf.inference.items.item_names`.
        config: batch size, runtime and device.
        shards: the engine, its cluster and the size of shards.
        model: a bundle; the packaged one by default.
        out: where to write.
        frame, axis: as of :func:`detectclf.pipelines.predict.predict`.
        resume: go on with a run of the same model and settings; its inputs are not listed again, but for signed URLs,
            which may have expired.

    Raises:
        ConfigError: ``out`` holds another run, an extra is not installed, or the cluster cannot be reached.
        DataError: there is nothing to predict.
        ModelError, DeviceError: as of the model.
        StorageError: a store refuses or does not answer; ``resume`` goes on later.
        KeyboardInterrupt: from the user, or by SIGTERM or SIGHUP; finished parts are kept.
    """
    from detectclf.inference.plans import forget_signatures
    from detectclf.inference.shards import check_arrow, finished_parts, forget_attempts, write_manifest

    if shards.engine == "ray":
        from detectclf.pipelines.ray_cluster import check_ray

        check_ray(shards)
    check_arrow()
    folder = StoredFolder(out if is_uri(out) else os.path.abspath(out))  # noqa: PTH100 - resolves no symlinks
    description = _description(inputs, config, shards, model, frame, axis)
    with ended_like_interrupted():
        plan = _earlier_plan(folder, description, resume=resume)
        names = _first_found(inputs) if plan is None else ()
        finished = {} if plan is None else finished_parts(folder, plan["parts"])
        if plan is None or len(finished) < plan["parts"]:
            # Before anything is written: a device or cluster that is not there leaves no output behind.
            with _engine(folder, config, shards, model, frame, axis) as engine:
                if plan is None:
                    plan = _new_plan(folder, names, description, shards.shard_size)
                else:
                    plan = _signed_again(folder, plan, inputs, finished)
                _predict_rest(engine, plan, finished)
        forget_attempts(folder)
        manifest = write_manifest(folder, finished)
        forget_signatures(folder, plan)
        folder.write("run.json", json.dumps(description | {"finished": True}, indent=1) + "\n")
    failed, read = manifest["errors"] + manifest["studies_refused"], manifest["records"] - manifest["errors"]
    if failed:
        log.warning("%s: %d could not be read; their records in records/ have an error", shown(out), failed)
    studies = f"{manifest['studies']} in records/" if manifest["studies"] else None
    return Predicted(folder.path("manifest.json"), studies, read, failed, (4 if read else 2) if failed else 0)


def _predict_rest(engine: Engine, plan: dict[str, int], finished: dict[int, dict[str, Any]]) -> None:
    """Predicts the parts that are not ``finished``, and adds them there."""
    todo = [number for number in range(plan["parts"]) if number not in finished]
    if finished:
        log.info("%d of %d parts are finished", len(finished), plan["parts"])
    done = sum(part["items"] for part in finished.values())
    with Progress("predicting", plan["items"], done=done) as progress:
        for part in engine(todo):
            finished[part["part"]] = part
            progress.advance(part["items"])


def _description(
    inputs: Sequence[str],
    config: PredictConfig,
    shards: ShardConfig,
    model: Path | None,
    frame: int | None,
    axis: str | None,
) -> dict[str, Any]:
    from detectclf.inference.loading import default_bundle
    from detectclf.inference.run_description import describe_run
    from detectclf.models.bundle import load_bundle
    from detectclf.pipelines.model_digest import model_digest

    bundle = load_bundle(default_bundle() if model is None else model)
    of_model = {"name": bundle.name, "version": bundle.version, "sha256": model_digest(model, ())}
    of_model |= {"runtime": config.runtime, "device": config.device}
    settings = {"frame": frame, "axis": axis, "shard_size": shards.shard_size}
    return describe_run(of_model, settings, {"arguments": [shown(each) for each in inputs]})


def _earlier_plan(folder: StoredFolder, description: dict[str, Any], *, resume: bool) -> dict[str, int] | None:
    """The plan of the run in ``folder``, if it has one; refuses a folder with another run."""
    from detectclf.inference.plans import read_plan
    from detectclf.inference.run_description import RUN_FILE, check_same_run, parse_run
    from detectclf.inference.shards import MANIFEST_FILE

    out = shown(folder.name)
    if folder.exists(RUN_FILE):
        check_same_run(parse_run(folder.read(RUN_FILE), folder.path(RUN_FILE)), description, out)
        if not resume:
            raise ConfigError(f"{out}: a run was begun here", remedy="add --resume, or choose another --out")
        return read_plan(folder)
    if folder.sizes("records") or folder.sizes("plan") or folder.exists(MANIFEST_FILE):
        raise ConfigError(f"{out}: has parts of a run that nothing describes", remedy="choose another --out")
    return None


def _first_found(inputs: Sequence[str]) -> Iterator[str]:
    """The names that the inputs mean, listed as they are asked for, of which the first was found.

    Raises:
        DataError: there is none.
        StorageError, ConfigError: as of :func:`detectclf.inference.items.item_names`.
    """
    from detectclf.inference.items import item_names

    names = item_names(inputs, sys.stdin.buffer)
    for first in names:
        return chain([first], names)
    raise DataError("no input", remedy="name image files, folders, globs or manifests with rows")


def _new_plan(folder: StoredFolder, names: Iterable[str], description: dict[str, Any], size: int) -> dict[str, int]:
    from detectclf.inference.plans import write_plan
    from detectclf.inference.run_description import RUN_FILE, run_text

    folder.write(RUN_FILE, run_text(description))
    return write_plan(folder, (each if is_uri(each) else os.path.abspath(each) for each in names), size)  # noqa: PTH100


def _signed_again(
    folder: StoredFolder, plan: dict[str, int], inputs: Sequence[str], finished: Container[int]
) -> dict[str, int]:
    """The plan of a run that goes on, with the signatures that its inputs have now."""
    from detectclf.inference.items import item_names
    from detectclf.inference.manifests import is_manifest
    from detectclf.inference.plans import renew_signatures
    from detectclf.inference.shards import MANIFEST_FILE

    given = [each for each in inputs if is_uri(each) or is_manifest(each)]
    # A run that had come to its end has forgotten its signatures.
    if not given or not (plan.get("signed") or folder.exists(MANIFEST_FILE)):
        return plan
    todo = (number for number in range(plan["parts"]) if number not in finished)
    return renew_signatures(folder, plan, item_names(given), todo)


@contextmanager
def _engine(
    folder: StoredFolder,
    config: PredictConfig,
    shards: ShardConfig,
    model: Path | None,
    frame: int | None,
    axis: str | None,
) -> Iterator[Engine]:
    if shards.engine == "ray":
        from detectclf.pipelines.predict_ray import ray_engine

        with ray_engine(folder, config, shards, model, frame, axis) as engine:
            yield engine
        return
    from detectclf.inference.part import predict_part
    from detectclf.pipelines.opening import predictor_of

    predictor = predictor_of(model, {}, config)
    yield lambda parts: (predict_part(predictor, folder, number, frame, axis) for number in parts)


__all__ = ["predict_shards"]
