"""The state of an interrupted or finished training, in one file per checkpoint; the two newest are kept.

``last/000012-9f86d081884c7d65.safetensors`` is the twelfth of a run: tensors, and all else as JSON in its header. The
second part of the name is a checksum of the file. A checkpoint gets its name once it is on the disk, and the oldest is
removed only then: a crash, a full disk, a power cut or a damaged file costs one checkpoint at most. There is no random
state in it, because every step sets its own seed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from safetensors import SafetensorError, safe_open

from detectclf.documents import parse_json
from detectclf.errors import DataError, ModelError, TrainingError
from detectclf.files import atomic_write

if TYPE_CHECKING:  # torch takes seconds to load, and whether there is a checkpoint is asked before
    from torch import Tensor
    from torch.optim import Optimizer

FORMAT = 2
KEPT = 2
"""Checkpoints that are kept, in case that the newest is damaged."""

DAMAGED = "damaged.safetensors"
"""The last checkpoint that was damaged; there is never more than one."""

_NAME = re.compile(r"(\d{6,})-([0-9a-f]{16})\.safetensors")
# Of earlier versions: state.json named one of the two others.
_OLD_STATE, _OLD_TENSORS = "state.json", ("tensors-a.safetensors", "tensors-b.safetensors")
_REMEDY = "train again into a new --out"

Tensors: TypeAlias = "dict[str, dict[str, Tensor]]"
"""Part (``model``, ``average``, ``optimizer``) -> name -> tensor."""


class Checkpoint(NamedTuple):
    """What :func:`save_checkpoint` wrote.

    Attributes:
        tensors, state: as given.
        damaged: newer checkpoints that are damaged, the newest first.
    """

    tensors: Tensors
    state: dict[str, Any]
    damaged: tuple[Path, ...]


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Adds a checkpoint and removes the third newest.

    Args:
        folder: created if missing.
        tensors: part (``model``, ``average``, ``optimizer``) -> name -> tensor.
        state: everything else, as JSON.

    Raises:
        TrainingError: it cannot be written (disk full, no permission); the previous checkpoints stay usable.
    """
    content = _serialised(tensors, state)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _checkpoints(folder)
        number = 1 + (_number(before[0]) if before else 0)
        atomic_write(folder / f"{number:06}-{_checksum(content)}.safetensors", content)
        for path in _superseded(folder):
            path.unlink(missing_ok=True)
    except (OSError, DataError) as error:
        raise disk_error(error, folder) from error


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint, whole or damaged."""
    return bool(_checkpoints(folder)) or (folder / _OLD_STATE).is_file()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or ``None`` if there is none yet.

    Raises:
        ModelError: all are damaged, or one is of a later version.
    """
    damaged: list[Path] = []
    for path in _checkpoints(folder):
        try:
            return Checkpoint(*_read(path), tuple(damaged))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            damaged.append(path)
    if (folder / _OLD_STATE).is_file():
        return Checkpoint(*_read_old(folder), tuple(damaged))
    if damaged:
        raise ModelError("all checkpoints are damaged", file=folder, remedy=_REMEDY)
    return None


def set_aside(damaged: Path) -> None:
    """Takes a damaged checkpoint out of the way of later ones; it can still be looked at."""
    damaged.replace(damaged.with_name(DAMAGED))


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``"parameter number/name" -> tensor``. The settings rebuild the parameter groups."""
    from torch import Tensor

    state = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": value
        for number, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads the state from :func:`optimizer_tensors` into an optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition("/")
        # load_state_dict would share the tensor with the caller.
        state.setdefault(int(number), {})[name] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def disk_error(error: Exception, path: Path) -> TrainingError:
    """The error to raise if a file of a run cannot be written.

    Args:
        error: an ``OSError``, or the error of :func:`~detectclf.files.atomic_write` that wraps one.
        path: the run or the checkpoint.
    """
    if isinstance(error, DataError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    number = getattr(error, "errno", None)
    reason = "disk full while writing" if number in (errno.ENOSPC, errno.EDQUOT) else f"cannot be written ({error})"
    return TrainingError(reason, file=path, remedy="free some space or correct permissions, then use --resume")


def _checkpoints(folder: Path) -> list[Path]:
    """All checkpoints, the newest first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _superseded(folder: Path) -> list[Path]:
    new = _checkpoints(folder)
    old = [folder / name for name in (_OLD_STATE, *_OLD_TENSORS)] if len(new) >= KEPT else []
    return new[KEPT:] + old


def _read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    from safetensors.torch import load

    content = path.read_bytes()
    if _checksum(content) != path.stem.partition("-")[2]:
        raise ValueError("another checksum")
    with safe_open(path, framework="pt") as file:
        state = parse_json(file.metadata()["state"])
    if state.pop("format") != FORMAT:
        raise ModelError("checkpoint of another version", file=path, remedy=_REMEDY)
    return _by_part(load(content)), state


def _read_old(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """The checkpoint that an earlier version left."""
    from safetensors.torch import load_file

    try:
        state = parse_json((folder / _OLD_STATE).read_bytes())
        name = state.pop("tensors")
        if state.pop("format") != 1 or name not in _OLD_TENSORS:
            raise ModelError("checkpoint of another version", file=folder, remedy=_REMEDY)
        return _by_part(load_file(folder / name)), state
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError("damaged checkpoint", file=folder, remedy=_REMEDY) from error


def _by_part(flat: Mapping[str, Tensor]) -> Tensors:
    tensors: Tensors = {}
    for key, tensor in flat.items():
        part, _, rest = key.partition("/")
        tensors.setdefault(part, {})[rest] = tensor
    return tensors


def _serialised(tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    # clone(): safetensors refuses tensors that share memory and channels_last tensors.
    flat = {
        f"{part}/{name}": t.detach().cpu().contiguous().clone() for part, d in tensors.items() for name, t in d.items()
    }
    return save(flat, metadata={"state": json.dumps({"format": FORMAT, **state})})


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
