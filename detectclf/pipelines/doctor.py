"""``doctor``: tests the installation."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectclf.version import __version__, install_fault, installed_version, unmet_requirements

PACKAGES = (
    "torch", "torchvision", "accelerate", "albumentations", "opencv-python-headless", "supervision", "pycocotools",
    "numpy", "pillow", "timm", "openvino", "onnxruntime", "onnxscript", "pydicom", "nibabel",
)  # fmt: skip
OPTIONAL = {"onnxruntime": "onnx", "pydicom": "medical", "nibabel": "medical", "supervision": "supervision"}


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of ``doctor``; ``checks`` are (name, passed, detail)."""

    versions: dict[str, str | None]
    checks: tuple[tuple[str, bool, str], ...]

    @property
    def healthy(self) -> bool:
        """Whether every check passed."""
        return all(passed for _, passed, _ in self.checks)

    def to_record(self) -> dict[str, Any]:
        """The JSON object of ``doctor --json``."""
        checks = [{"check": name, "ok": passed, "detail": detail} for name, passed, detail in self.checks]
        return {"healthy": self.healthy, "versions": self.versions, "checks": checks}

    def table(self) -> str:
        """Plain text for a terminal."""
        lines = [f"{name:24} {version or _absent(name)}" for name, version in self.versions.items()]
        lines += [f"{'ok' if passed else 'FAILED':8} {name}: {detail}" for name, passed, detail in self.checks]
        return "\n".join(lines)


def examine() -> Findings:
    """Versions, and checks of box operations, the device, the weights cache, images and the packaged model."""
    versions = {
        "detectclf": __version__,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: installed_version(name) for name in PACKAGES},
    }
    checks = [(name, *_attempt(check)) for name, check in CHECKS.items()]
    return Findings(versions, tuple(checks))


def _absent(package: str) -> str:
    return f"not installed (extra: {OPTIONAL[package]})" if package in OPTIONAL else "not installed"


def _attempt(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except Exception as error:
        # Any error is the result of the check.
        return False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _nms() -> str:
    import torch

    try:
        from torchvision.ops import nms
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        raise RuntimeError(install_fault(error) or str(error)) from error
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept != [0, 2]:
        raise RuntimeError(f"kept boxes {kept}, expected [0, 2]")
    return "torchvision.ops.nms gives the right result"


def _device() -> str:
    import torch

    from detectclf.models.device import resolve_device, resolve_precision

    device = resolve_device("auto")
    with torch.inference_mode():
        torch.nn.Conv2d(3, 8, 3).to(device)(torch.rand(1, 3, 32, 32, device=device)).sum().item()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return f"{device} ({name}), mixed precision {resolve_precision('auto', device)}"


def _weights_cache() -> str:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"{folder} cannot be written; set TORCH_HOME")
    files = list(folder.glob("*.pth")) if folder.is_dir() else []
    return f"{len(files)} downloaded weights in the torch hub folder, which is writable"


def _images() -> str:
    import cv2
    import numpy as np

    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    back = cv2.imdecode(cv2.imencode(".png", ramp)[1], cv2.IMREAD_GRAYSCALE)
    if back is None or not np.array_equal(back, ramp):
        raise RuntimeError("a PNG changed when it was written and read")
    return "OpenCV writes and reads PNG"


def _packages() -> str:
    if unmet := unmet_requirements():
        raise RuntimeError("; ".join(unmet))
    return "all that detectclf needs are installed, in versions that it works with"


def _packaged_model() -> str:
    from detectclf.inference.loading import default_bundle, load
    from detectclf.sample_data.slices import sample_slice

    if not default_bundle().is_dir():
        return "none comes with this installation"
    drawn = "meningioma"
    model = load(device="cpu")
    found = model.predict(sample_slice(1, drawn, "axial").pixels)
    if found.label != drawn or not found.boxes_xyxy.size:
        raise RuntimeError(f"{model.runtime.name} gives {found.label} for a drawn {drawn}, {len(found.scores)} boxes")
    stages = " and ".join(stage.meta.arch for stage in model.bundle.stages.values())
    return f"{model.name} ({stages}) finds a drawn {drawn}, computed by {model.runtime.name}"


CHECKS: dict[str, Callable[[], str]] = {
    "box operations": _nms,
    "device": _device,
    "weights cache": _weights_cache,
    "images": _images,
    "packaged model": _packaged_model,
    "packages": _packages,
}
