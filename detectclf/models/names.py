"""What can be said of architectures, weights and devices by their names alone.

torch takes seconds to load, and nobody should wait for it to be told of a slip in a name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from ctypes import CDLL
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from detectclf.errors import DeviceError, ModelError
from detectclf.recipes import close_to

ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "detector": (
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "fasterrcnn_mobilenet_v2_fpn",
        "fasterrcnn_small_fpn",
    ),
    "classifier": (
        "mlp",
        "cnn",
        "alexnet",
        "vgg16",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "resnet18",
        "resnet50",
        "inception_v3",
        "efficientnet_v2_s",
        "convnext_tiny",
        "swin_t",
    ),
}
"""Kind of stage -> its architectures of a fixed name: the rows of its table, which need torch."""

AMD_DEVICES = ("/dev/kfd", "/dev/dxg")
"""Files by which Linux, and Linux in Windows, offer GPUs to ROCm, whose builds of torch call them CUDA."""

XLA_REMEDY = "on a machine with a TPU install the torch_xla[tpu] of torch's version, else use --device auto"

TIMM: Mapping[str, str] = {"detector": "fasterrcnn_timm:", "classifier": "timm:"}
"""Kind of stage -> what stands before the name of a network of timm."""

_TIMM_NAME = re.compile(r"^def (\w+)\(|^\s+['\"](\w+)['\"]\s*:", re.MULTILINE)


def check_arch(kind: str, arch: str) -> None:
    """Makes sure that there is such an architecture; of timm's, that its source has the name.

    Args:
        kind: kind of stage, a key of :data:`ARCHITECTURES`.
        arch: its name.

    Raises:
        ModelError: there is none of this name for this kind of stage.
    """
    if _is_of(kind, arch):
        if arch.startswith(TIMM[kind]):
            _check_timm(arch.removeprefix(TIMM[kind]))
        return
    other = next((each for each in ARCHITECTURES if _is_of(each, arch)), None)
    if other is None:
        reason = f"no {kind} {arch!r}{close_to(arch.casefold().replace('-', '_'), ARCHITECTURES[kind])}"
    else:
        reason = f"no {kind} {arch!r}, which is a {other}"
    raise ModelError(reason, remedy=f"use one of {', '.join(ARCHITECTURES[kind])} or {TIMM[kind]}NAME")


def _check_timm(name: str) -> None:
    names = _timm_names()
    if names and name.partition(".")[0] not in names:
        raise no_timm(name, names)


@cache
def _timm_names() -> frozenset[str]:
    """Names of timm's networks and other words of its source, by its text; empty where there is no text.

    Functions have the names of networks, and keys of tables those of old ones too. timm itself takes seconds to load.
    """
    found = find_spec("timm")
    folders = () if found is None else found.submodule_search_locations or ()
    texts = (file.read_text(encoding="utf-8") for folder in folders for file in Path(folder, "models").rglob("*.py"))
    return frozenset(name for text in texts for pair in _TIMM_NAME.findall(text) for name in pair if name)


def no_timm(name: str, known: Iterable[str]) -> ModelError:
    """The error where timm has no network ``name``, but those in ``known``."""
    return ModelError(f"timm has no network {name!r}{close_to(_plain(name), known)}", remedy="see timm.list_models()")


def _plain(name: str) -> str:
    """A name as papers write it, in the spelling of ours."""
    return name.casefold().replace("-", "_")


def _is_of(kind: str, arch: str) -> bool:
    return arch in ARCHITECTURES[kind] or arch.startswith(TIMM[kind])


def check_weights(spec: str) -> None:
    """Makes sure that starting weights are there, if they lie in a file; what they hold is not looked at.

    Args:
        spec: ``default``, ``none``, or the path of a weights file or of a run directory.

    Raises:
        ModelError: there is no such file.
    """
    if not spec.strip():
        raise ModelError("the name of the starting weights is empty", remedy="use default, none, or name a file")
    if spec not in ("default", "none"):
        existing_weights(Path(spec))


def existing_weights(path: Path) -> Path:
    """The weights file that ``path`` names: itself, or that in a run directory.

    Raises:
        ModelError: it does not exist.
    """
    try:
        file = path / "model.safetensors" if path.is_dir() else path
        there = file.is_file()
    except OSError as error:  # such as a name longer than the file system takes
        raise ModelError(
            f"no weights file can have this name ({error.strerror})", remedy="correct --weights"
        ) from error
    if not there:
        hint = close_to(str(path).casefold(), ("default", "none"))
        remedy = "give a safetensors or state-dict file, a run directory, default or none"
        raise ModelError(f"no such weights file{hint}", file=file, remedy=remedy)
    return file


def check_device(name: str, *, training: bool = False) -> None:
    """Makes sure that ``name`` is that of a device, and that nothing speaks against its being there.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; for trainings also ``xla``.
        training: whether it is for one.

    Raises:
        DeviceError: an unknown device, or one that this machine cannot have.
    """
    kind, colon, number = name.partition(":")
    if name == "xla" and training:
        if find_spec("torch_xla") is None:
            raise DeviceError("device 'xla': torch_xla is not installed", remedy=XLA_REMEDY)
        return
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not (kind == "cuda" and number.isdecimal())):
        hint = close_to(name.casefold(), ("auto", "cpu", "cuda", "mps"))
        what = "device 'xla' is for training only" if name == "xla" else f"unknown device {name!r}{hint}"
        raise DeviceError(what, remedy=f"use auto, cpu, cuda, cuda:N{', mps or xla' if training else ' or mps'}")
    if kind == "mps" and sys.platform != "darwin":
        raise no_mps()
    if kind == "cuda" and "torch" not in sys.modules and not _may_have_cuda():
        raise no_cuda(name, built_without=False)


def no_mps() -> DeviceError:
    """The error where there is no GPU of Apple's."""
    return DeviceError("device 'mps' is not there", remedy="use --device auto or cpu")


def no_cuda(name: str, *, built_without: bool) -> DeviceError:
    """The error where the device ``name`` of CUDA cannot be used."""
    why = "this torch is built without CUDA" if built_without else "there is no CUDA GPU"
    return DeviceError(f"device {name!r}: {why}", remedy="use --device auto or cpu")


def _may_have_cuda() -> bool:
    """Whether torch may find CUDA: without a driver's library it cannot. AMD's GPUs (ROCm) are known by a device."""
    if any(Path(device).exists() for device in AMD_DEVICES):
        return True
    try:
        CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


__all__ = [
    "ARCHITECTURES",
    "TIMM",
    "XLA_REMEDY",
    "check_arch",
    "check_device",
    "check_weights",
    "existing_weights",
    "no_cuda",
    "no_mps",
    "no_timm",
]
