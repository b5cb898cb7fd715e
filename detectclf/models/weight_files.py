"""State dicts from the library's store and from untrusted files, read without running code in them."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detectclf.deadlines import within
from detectclf.errors import ModelError, UnsafeError
from detectclf.models.names import existing_weights
from detectclf.models.pickles import packed_tightly, would_run_code

log = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT = 20.0
"""A download fails after this many seconds without a byte."""

DOWNLOAD_DEADLINE = 3600.0
"""A download fails after this many seconds, however it drips."""

_DEEPEST_NEST = 4
_NUMBERS = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8}
    | {torch.int8, torch.int16, torch.int32, torch.int64}
)
_NESTS = ("state_dict", "model_state_dict", "model", "model_ema", "ema", "net", "weights")


def default_state(name: str) -> dict[str, Tensor]:
    """The library's own pretrained weights, downloaded once and checked.

    Args:
        name: a torchvision model (its ``DEFAULT`` weights, checked by the hash in the file's name), or
            ``timm:NAME`` (safetensors from the model hub, which addresses files by their content).

    Raises:
        ModelError: they cannot be downloaded.
    """
    remedy = "use --weights PATH or --weights none"
    try:
        # torch.hub announces downloads on stdout, which we keep for results.
        with _with_timeout(), redirect_stdout(StringIO()):
            load = _timm_state if name.startswith("timm:") else _torchvision_state
            return within(DOWNLOAD_DEADLINE, lambda: load(name.removeprefix("timm:")))
    except ModelError:
        raise
    except Exception as error:  # the clients raise a dozen types of errors, all with this meaning for the user
        raise ModelError(
            f"cannot download the pretrained weights of {name} ({type(error).__name__})", remedy=remedy
        ) from error


def _torchvision_state(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    weights = get_model_weights(name)["DEFAULT"]
    if not Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2]).is_file():
        log.info("downloading the pretrained weights of %s", name)
    state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return state


def _timm_state(name: str) -> dict[str, Tensor]:
    from urllib.request import Request, urlopen

    import timm
    from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise ModelError(f"timm has no pretrained weights of {name}", remedy="use --weights PATH or --weights none")
    where = (config.hf_hub_id, "model.safetensors")
    cached = try_to_load_from_cache(*where)
    if not isinstance(cached, str):
        # Offline, the hub's client retries for half a minute with warnings; this request fails immediately.
        log.info("downloading the pretrained weights of %s", name)
        urlopen(Request(hf_hub_url(*where), method="HEAD")).close()
        cached = hf_hub_download(*where)
    return _read_safetensors(Path(cached))


@contextmanager
def _with_timeout() -> Iterator[None]:
    # torch.hub sets no timeout and would wait forever on a silent network.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of safetensors or of ``torch.save``.

    Args:
        path: the file, or a run directory (its ``model.safetensors``).

    Raises:
        ModelError: the file does not exist, is not a weights file, is corrupted, or has no tensors.
        UnsafeError: a pickle that holds code, which is not run.
    """
    path = existing_weights(path)
    return _read_safetensors(path) if _looks_like_safetensors(path) else _read_pickle(path)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors in a safetensors file, from its header alone; raises as :func:`read_state`."""
    from safetensors import safe_open

    if not path.is_file():
        raise ModelError("no such weights file", file=path, remedy="give a safetensors or state-dict file")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # of Rust, and of numpy for types of numbers that it lacks
        _refuse_code(path, error)
        raise ModelError("corrupted weights file", file=path, remedy="copy or download it again") from error


def _looks_like_safetensors(path: Path) -> bool:
    # Eight bytes of header length, then a JSON object. Pickles and zip archives differ in the ninth byte.
    with path.open("rb") as file:
        start = file.read(9)
    return path.suffix == ".safetensors" or (len(start) == 9 and start[8:] == b"{")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    # KeyError: a type of numbers that torch lacks. RuntimeError: a shape that does not fit the bytes.
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        _refuse_code(path, error)
        raise ModelError("corrupted weights file", file=path, remedy="copy or download it again") from error
    _check_plain(state, path)
    return state


def _read_pickle(path: Path) -> dict[str, Tensor]:
    if packed_tightly(path):
        raise UnsafeError(
            "a zip with compressed entries, which torch does not write (decompression bomb?)",
            file=path,
            remedy="save the state dict again, best as safetensors",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickles that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the zip and pickle readers of torch.load raise many types of errors
        _refuse_code(path, error)
        raise _not_weights(path) from error
    return _flat_state(content, path)


def _refuse_code(path: Path, error: Exception) -> None:
    if would_run_code(path):
        raise UnsafeError(
            "not loaded: a pickle that holds more than tensors could run code",
            file=path,
            remedy="save its state dict as safetensors and give that",
        ) from error


def _not_weights(path: Path) -> ModelError:
    return ModelError("not a weights file, or corrupted", file=path, remedy="give a safetensors or state-dict file")


def _flat_state(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may be nested under ``state_dict``, ``model`` and the like."""
    for _ in range(_DEEPEST_NEST):  # a pickle may hold itself
        if not isinstance(content, Mapping):
            break
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            _check_plain(tensors, path)
            return tensors
        content = next((content[nest] for nest in _NESTS if isinstance(content.get(nest), Mapping)), None)
    raise ModelError("holds no tensors", file=path, remedy="give a safetensors or state-dict file")


def _check_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses tensors that are no plain arrays of numbers, which cannot be copied into a network."""
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
        if not plain or tensor.is_quantized or tensor.is_complex() or tensor.dtype not in _NUMBERS:
            what = f"{tensor.dtype}, {tensor.layout}, on {tensor.device.type}"
            raise ModelError(
                f"tensor {name[:80]!r} is no array of real numbers ({what})",
                file=path,
                remedy="give the state dict of a network as torch saves it",
            )


__all__ = ["default_state", "read_shapes", "read_state"]
