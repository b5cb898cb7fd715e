"""The state of an interrupted or finished training, as safetensors and JSON, written completely or not at all.

``last/state.json`` names the tensor file that belongs to it and is replaced in one step, so that a crash or a full disk
leaves the previous checkpoint intact. It holds no random state, because every step sets its own seed.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from detectclf.errors import DataError, ModelError, TrainingError
from detectclf.files import atomic_write

FORMAT = 1


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint in ``folder``.

    Args:
        folder: created if missing.
        tensors: part (``model``, ``average``, ``optimizer``) -> name -> tensor.
        state: everything else, as JSON.

    Raises:
        TrainingError: it cannot be written (disk full, no permission); the previous checkpoint stays usable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    old = _current(folder)
    new = "tensors-b.safetensors" if old == "tensors-a.safetensors" else "tensors-a.safetensors"
    # clone(): safetensors refuses tensors that share memory and channels_last tensors.
    flat = {
        f"{part}/{name}": t.detach().cpu().contiguous().clone() for part, d in tensors.items() for name, t in d.items()
    }
    try:
        save_file(flat, folder / new)
        atomic_write(folder / "state.json", json.dumps({"format": FORMAT, "tensors": new, **state}))
    except (OSError, SafetensorError, DataError) as error:
        (folder / new).unlink(missing_ok=True)
        raise disk_error(error, folder) from error
    if old is not None:
        (folder / old).unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """What :func:`save_checkpoint` wrote, or ``None`` if there is no checkpoint yet.

    Raises:
        ModelError: the checkpoint is damaged.
    """
    name = _current(folder)
    if name is None:
        return None
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        flat = load_file(folder / name)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError("damaged checkpoint", file=folder, remedy="train again into a new --out") from error
    if state.pop("format", None) != FORMAT or not state.pop("tensors"):
        raise ModelError("checkpoint of another version", file=folder, remedy="train again into a new --out")
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        part, _, rest = key.partition("/")
        tensors.setdefault(part, {})[rest] = tensor
    return tensors, state


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``"parameter number/name" -> tensor``. The settings rebuild the parameter groups."""
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
        error: an ``OSError``, or the error of safetensors or of :func:`~detectclf.files.atomic_write` that wraps one.
        path: the run or the checkpoint.
    """
    if isinstance(error, DataError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error) or "os error 28" in str(error)
    reason = "disk full while writing" if full else f"cannot be written ({error})"
    return TrainingError(reason, file=path, remedy="free some space or correct permissions, then use --resume")


def _current(folder: Path) -> str | None:
    try:
        name = json.loads((folder / "state.json").read_text(encoding="utf-8"))["tensors"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError("damaged checkpoint", file=folder, remedy="train again into a new --out") from error
    if name not in ("tensors-a.safetensors", "tensors-b.safetensors"):
        raise ModelError("damaged checkpoint", file=folder, remedy="train again into a new --out")
    return str(name)
