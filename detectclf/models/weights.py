"""Pretrained weights: where they come from, and which of them fit.

They come from the library's own store (``default``: downloaded once, checked by hash and cached) or from a file of the
user (safetensors or a plain state dict, never a pickle with code). With ``none``, no weights are loaded.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from detectclf.errors import ModelError
from detectclf.models.weight_files import default_state, read_state

log = logging.getLogger(__name__)

MIN_SHARE = 0.5
"""Smallest share of the backbone's tensors that must fit. Features-only files of AlexNet reach 0.7, files of other
architectures stay below 0.4."""

# Prefixes that training code and wrappers add to a network's own names.
_WRAPPERS = frozenset(
    {"module", "model", "_orig_mod", "backbone", "body", "network", "net", "encoder", "features", "trunk", "pyramid"}
)


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """Which tensors of a weights file were loaded.

    Attributes:
        source: ``default``, ``none``, or the file's name.
        matched: tensors of the model that were loaded.
        missing: tensors of the model that are not in the file; they keep their initial values.
        unexpected: tensors of the file that are not in the model.
        mismatched: tensors that have another shape in the file, such as heads with another number of classes.
    """

    source: str
    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for the log."""
        if not self.matched:
            return f"weights: {self.source}; every layer is trained from scratch"
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        new = sorted({_layer(name) for name in (*self.missing, *self.mismatched)})
        tail = f"; new: {', '.join(new[:6])}{', ...' if len(new) > 6 else ''}" if new else ""
        spare = f"; {len(self.unexpected)} in the file not used" if self.unexpected else ""
        return f"weights: {self.source}; {len(self.matched)} of {total} tensors loaded{tail}{spare}"

    def lines(self) -> list[str]:
        """One line per tensor."""
        parts = ("matched", "mismatched", "missing", "unexpected")
        return [f"{part}: {name}" for part in parts for name in getattr(self, part)]


def load_weights(module: nn.Module, spec: str, *, arch: str, default: str | None, core: str = "") -> WeightsReport:
    """Loads pretrained weights into ``module``, as far as they fit.

    Whole-model and features-only layouts are accepted, with or without the prefixes that wrappers add. Tensors of
    another shape (heads with another number of classes) are left out.

    Args:
        module: the network, changed in place.
        spec: ``default``, ``none``, or the path of a weights file or of a run directory.
        arch: name for messages.
        default: what ``default`` stands for: name of a torchvision model, ``timm:NAME``, or ``None`` if the
            architecture has no pretrained weights (then nothing is loaded).
        core: prefix of the backbone's tensors, of which :data:`MIN_SHARE` must fit.

    Raises:
        ModelError: the weights cannot be downloaded, do not exist, are corrupted, or belong to another architecture.
        UnsafeError: a pickle that holds code.
    """
    if spec == "none":
        return WeightsReport("none")
    if spec == "default":
        if default is None:
            return WeightsReport(f"none ({arch} has no pretrained weights)")
        return fill(module, default_state(default), source="default", arch=arch, core=core)
    return fill(module, read_state(Path(spec)), source=Path(spec).name, arch=arch, core=core)


def fill(module: nn.Module, state: Mapping[str, Tensor], *, source: str, arch: str, core: str = "") -> WeightsReport:
    """Copies the tensors of ``state`` that fit into ``module``; see :func:`load_weights`.

    Raises:
        ModelError: too few tensors fit, so the weights belong to another architecture.
    """
    target = {name: tensor for name, tensor in module.state_dict().items() if not _is_counter(name)}
    given = {name: tensor for name, tensor in state.items() if not _is_counter(name)}
    names = _best_naming(given, target)
    fitting = {names[n]: t for n, t in given.items() if n in names and t.shape == target[names[n]].shape}
    backbone = [name for name in target if name.startswith(core)]
    hits = sum(name in fitting for name in backbone)
    if hits < MIN_SHARE * len(backbone):
        raise ModelError(
            f"weights of another architecture: {hits} of the {len(backbone)} tensors of {arch} fit",
            file=source,
            remedy=f"give weights of {arch}, or use --weights none",
        )
    module.load_state_dict(fitting, strict=False)
    mismatched = {names[name] for name in given if name in names} - fitting.keys()
    report = WeightsReport(
        source=source,
        matched=tuple(sorted(fitting)),
        missing=tuple(sorted(target.keys() - fitting.keys() - mismatched)),
        unexpected=tuple(sorted(name for name in given if name not in names)),
        mismatched=tuple(sorted(mismatched)),
    )
    for line in report.lines():  # with --verbose
        log.debug("%s", line)
    return report


def _best_naming(given: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in the file -> name in the model, for the change of prefix with which most tensors fit."""
    by_name = {_canonical(name): name for name in target}
    best: dict[str, str] = {}
    most = -1
    for strip in _openings(given):
        for add in _openings(target):
            names = {
                name: by_name[changed]
                for name in given
                if name.startswith(strip) and (changed := _canonical(add + name[len(strip) :])) in by_name
            }
            hits = sum(given[name].shape == target[own].shape for name, own in names.items())
            if hits > most:
                best, most = names, hits
    return best


def _openings(names: Iterable[str]) -> list[str]:
    """Every dotted prefix of ``names`` that consists of wrapper names only, the empty one first."""
    found = {"": None}
    for name in names:
        parts = name.split(".")[:-1]
        for count, part in enumerate(parts, start=1):
            if part not in _WRAPPERS:
                break
            found[".".join(parts[:count]) + "."] = None
    return list(found)


def _canonical(name: str) -> str:
    # timm's features_only models write stages_0 for stages.0.
    return re.sub(r"_(\d+)(?=\.)", r".\1", name)


def _is_counter(name: str) -> bool:
    # BatchNorm's step counter is missing in older files and has no effect.
    return name.endswith("num_batches_tracked")


def _layer(name: str) -> str:
    """``head.weight`` -> ``head``: the module that a tensor belongs to, at most two names deep."""
    return ".".join(name.split(".")[:-1][:2])


__all__ = ["WeightsReport", "fill", "load_weights"]
