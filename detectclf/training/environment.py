"""The environment of a training, and the seeds that make it repeatable."""

from __future__ import annotations

import platform
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detectclf.models.anonymise import without_folders
from detectclf.models.xla import seed_xla, xla_kind
from detectclf.uris import without_secrets
from detectclf.version import installed_version

_LIBRARIES = (
    "torch",
    "torchvision",
    "torch_xla",
    "accelerate",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "pycocotools",
    "timm",
)


def seed_everything(*key: int) -> None:
    """Seeds Python, NumPy and torch (all devices) with a hash of ``key``, such as (seed, epoch, step, process).

    It is called before each step, so that a resumed training equals one that was never interrupted, without random
    state in the checkpoint.
    """
    seeds = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]))
    torch.manual_seed(int(seeds[2]) << 32 | int(seeds[3]))
    seed_xla(int(seeds[2]))


def describe_environment(device: torch.device, precision: str, processes: int) -> dict[str, Any]:
    """Versions, device, commit and command, but nothing that identifies the machine or its user."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else xla_kind(device)
    return {
        "detectclf": installed_version("detectclf"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: version for name in _LIBRARIES if (version := installed_version(name)) is not None},
        "device": device.type,
        "device_name": accelerator,
        "precision": precision,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "git_commit": git_commit(),
        "command": [without_folders(Path(sys.argv[0])), *(without_secrets(word) for word in sys.argv[1:])],
    }


def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, with ``-dirty`` if files changed; ``None`` if installed."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    # An installed copy may lie inside another project's repository, whose commit would be wrong.
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip() or None


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory so far, MiB: of the GPU on cuda, else of this process; ``None`` if it is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
