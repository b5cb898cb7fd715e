"""The state of an interrupted or finished training, as safetensors and JSON, written whole or not at all.

``last/state.json`` names the tensor file that belongs to it and is replaced in one step, so a crash or a full disk
while writing leaves the state before intact. There is no random state in it: every step seeds itself anew.
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

from detectclf.errors import ModelError, TrainingError

FORMAT = 1


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """Replaces the checkpoint in ``folder``.

    Args:
        folder: made when missing.
        tensors: part (``model``, ``average``, ``optimizer``) -> name -> tensor.
        facts: JSON-able rest.

    Raises:
        TrainingError: it cannot be written (disk full, no permission); the checkpoint before stays usable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    old = _current(folder)
    new = "tensors-b.safetensors" if old == "tensors-a.safetensors" else "tensors-a.safetensors"
    # clone(): tensors that share memory, and channels_last ones, are refused by safetensors.
    flat = {
        f"{part}/{name}": t.detach().cpu().contiguous().clone() for part, d in tensors.items() for name, t in d.items()
    }
    state = folder / "state.json"
    partial = folder / "state.json.partial"
    try:
        save_file(flat, folder / new)
        partial.write_text(json.dumps({"format": FORMAT, "tensors": new, **facts}), encoding="utf-8")
        partial.replace(state)
    except (OSError, SafetensorError) as error:
        (folder / new).unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        raise disk_error(error, folder) from error
    if old is not None:
        (folder / old).unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """What :func:`save_checkpoint` wrote, or ``None`` where there is none yet.

    Raises:
        ModelError: it is damaged.
    """
    name = _current(folder)
    if name is None:
        return None
    try:
        facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        flat = load_file(folder / name)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError("damaged checkpoint", file=folder, remedy="train again into a new --out") from error
    if facts.pop("format", None) != FORMAT or not facts.pop("tensors"):
        raise ModelError("checkpoint of another version", file=folder, remedy="train again into a new --out")
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        part, _, rest = key.partition("/")
        tensors.setdefault(part, {})[rest] = tensor
    return tensors, facts


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``"parameter number/name" -> tensor``; groups are rebuilt from the settings."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": value
        for number, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimiser over the same parameters its state back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition("/")
        # load_state_dict would share the tensor with whoever holds it.
        state.setdefault(int(number), {})[name] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def disk_error(error: Exception, path: Path) -> TrainingError:
    """One line for a file that could not be written. safetensors wraps the system's error into its own."""
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error) or "os error 28" in str(error)
    reason = "disk full while writing" if full else f"cannot be written ({error})"
    return TrainingError(reason, file=path, remedy="free some space or mend permissions, then go on with --resume")


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
