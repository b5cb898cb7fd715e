"""A stage on disk: ``model.safetensors`` with the weights and ``model.json`` with the description."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from detectclf import documents
from detectclf.errors import DataError, ModelError
from detectclf.files import atomic_write
from detectclf.models.parameter_count import count_parameters
from detectclf.models.stage import STAGES, ModelMeta, Stage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detectclf.config import ModelConfig
    from detectclf.models.transfer import TransferModel

MODEL_FILE, META_FILE = "model.safetensors", "model.json"

META_LIMIT = 16 * 2**20
"""Largest description that is read, bytes."""

REMOVED = "a stage that this version no longer runs"
"""What is said of a refiner, which earlier versions could train and bundle."""


def save_stage(folder: Path, stage: Stage, *, half: bool = False) -> None:
    """Writes ``model.safetensors`` and ``model.json`` into ``folder``, each in one step.

    Args:
        folder: created if missing.
        stage: its network may be on any device.
        half: store matrices and filters in float16, which halves the file.

    Raises:
        DataError: the files cannot be written, such as on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / MODEL_FILE, weights_bytes(stage.network, half=half))
    atomic_write(folder / META_FILE, stage.meta.model_dump_json(indent=2) + "\n")


def load_stage(folder: Path, kind: str) -> Stage:
    """The stage in a run directory, in evaluation mode on the CPU.

    Args:
        folder: the run directory.
        kind: the kind of stage that it must be, a key of :data:`~detectclf.models.stage.STAGES`.

    Raises:
        ModelError: not a run directory, another kind of stage, corrupted files, or weights of another architecture.
    """
    meta = read_meta(folder / META_FILE)
    stage = rebuild_stage(meta, folder / MODEL_FILE, kind)
    _ = stage.network  # now, so that damaged weights are refused here
    return stage


def rebuild_stage(meta: ModelMeta, weights: Path, kind: str) -> Stage:
    """The stage that ``meta`` describes with the weights of a file, which are read when the network is used.

    Raises:
        ModelError: another kind of stage, or settings that do not suit it; using the network raises as
            :func:`load_stage`.
    """
    settings = _settings(meta, kind, weights)

    def build() -> TransferModel:
        make = partial(STAGES[kind].build, settings, len(meta.classes))
        _check_fit(make, weights, meta)
        network = make()
        if len(network.normalisation()[0]) != len(meta.preprocessing.mean):
            raise ModelError("mean and std of another architecture", file=weights, remedy="train it again")
        _fill(network, weights)
        network.set_normalisation(meta.preprocessing.mean, meta.preprocessing.std)
        return network.eval()

    return Stage(meta, build, lambda: count_parameters(weights))


def read_meta(file: Path) -> ModelMeta:
    """The description in a ``model.json``.

    Raises:
        ModelError: the file is missing, so the folder is not a run directory; or it does not describe a model.
    """
    content = read_json(file, missing="not a run directory: it has no model.json", remedy="give a finished run")
    if isinstance(content, dict) and content.get("kind") == "refiner":
        raise ModelError(f"is a refiner, {REMOVED}", file=file.parent, remedy="leave it out")
    try:
        return ModelMeta.model_validate(content)
    except ValidationError as error:
        raise _not_a_description(file, error) from error


def read_json(file: Path, *, missing: str, remedy: str) -> Any:
    """The content of a JSON file that detectclf wrote.

    Args:
        file: the file.
        missing: reason given in the error if the file does not exist.
        remedy: what to do in that case.

    Raises:
        ModelError: the file does not exist or is not JSON.
        UnsafeError: it is not a regular file, or it is much too large.
    """
    if not file.exists():
        raise ModelError(missing if file.parent.is_dir() else "no such folder", file=file.parent, remedy=remedy)
    try:
        return documents.read_json(file, limit_bytes=META_LIMIT)
    except DataError as error:
        raise ModelError(error.reason, file=file, remedy=error.remedy) from error
    except ValueError as error:
        raise ModelError("corrupted: not JSON", file=file, remedy="copy or train it again") from error


def weights_bytes(module: nn.Module, *, half: bool) -> bytes:
    """The module's state as safetensors.

    With ``half``, vectors stay in float32: they are few, and float16 cannot hold the smallest BatchNorm variances. So
    does what is too large for float16, beyond 65504.
    """
    import torch
    from safetensors.torch import save

    state = {}
    for name, tensor in module.state_dict().items():
        # A clone of each: safetensors refuses tensors that share memory.
        kept = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        halved = kept.half() if half and kept.is_floating_point() and kept.dim() > 1 else kept
        state[name] = halved if torch.isfinite(halved).all() else kept
    return save(state, metadata={"format": "pt"})


def _settings(meta: ModelMeta, kind: str, file: Path) -> ModelConfig:
    if meta.kind != kind:
        raise ModelError(f"is a {meta.kind}, not a {kind}", file=file.parent, remedy=f"give the run of a {kind}")
    # The file has all weights, so nothing is downloaded. The input size is the saved one, not today's default.
    if len(meta.preprocessing.mean) != len(meta.preprocessing.std):
        raise ModelError("mean and std differ in length", file=file.parent / META_FILE, remedy="train it again")
    settings = {**meta.config, "arch": meta.arch, "weights": "none", "image_size": meta.preprocessing.size}
    try:
        return STAGES[kind].settings.model_validate(settings)
    except ValidationError as error:
        raise _not_a_description(file.parent / META_FILE, error) from error


def _not_a_description(file: Path, error: ValidationError) -> ModelError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return ModelError(f"not a description of a model: {where}: {first['msg']}", file=file, remedy="train it again")


def _check_fit(make: Callable[[], TransferModel], file: Path, meta: ModelMeta) -> None:
    """Refuses weights of another architecture before a network is made: a line of JSON may name one of 4 GB."""
    from detectclf.models.timm_networks import on_meta
    from detectclf.models.weight_files import read_shapes

    own = {name: tuple(tensor.shape) for name, tensor in on_meta(make).state_dict().items()}
    state = read_shapes(file)
    wrong = [name for name in own.keys() | state.keys() if own.get(name) != state.get(name)]
    if wrong:
        raise ModelError(
            f"weights of another architecture: {len(wrong)} of {len(own)} tensors do not fit {meta.arch}",
            file=file,
            remedy="keep model.safetensors and model.json of one run together",
        )


def _fill(network: TransferModel, file: Path) -> None:
    """Loads the weights of ``file``, whose shapes were checked."""
    import torch

    from detectclf.models.weight_files import read_state

    state: dict[str, Tensor] = read_state(file)
    if not all(torch.isfinite(tensor).all() for tensor in state.values() if tensor.is_floating_point()):
        raise ModelError("weights are not finite", file=file, remedy="train it again with a lower learning rate")
    network.load_state_dict(state)


__all__ = ["load_stage", "read_meta", "rebuild_stage", "save_stage"]
