"""Predictors from the packaged bundle, from the folder of a bundle, or from run directories."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

from detectclf.config import PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.fusion import default_fusion
from detectclf.inference.predictor import Predictor
from detectclf.recipes import load_recipe


def default_bundle() -> Path:
    """The folder of the packaged default bundle, whether or not it is installed."""
    return Path(str(resources.files("detectclf"))) / "assets" / "default"


def is_default(path: str | Path) -> bool:
    """Whether ``path`` is the word ``default``, which means the packaged bundle, and no folder."""
    return str(path) == "default" and not Path(path).exists()


Runtime = Literal["auto", "openvino", "onnx", "torch"]


def load(path: str | Path | None = None, *, runtime: Runtime = "auto", device: str = "auto") -> Predictor:
    """A predictor of the bundle in the folder ``path``, or of the packaged default bundle.

    Args:
        path: the bundle; ``None`` or ``"default"`` is the packaged one, unless there is a folder of that name.
        runtime, device: as in :class:`~detectclf.config.PredictConfig`.

    Raises:
        ConfigError: there is no such runtime.
        ModelError: there is no bundle, it is damaged, or it cannot be run by ``runtime``.
        DeviceError: the device is not available.
    """
    from detectclf.models.bundle import load_bundle

    if path is None or is_default(path):
        path = default_bundle()
        if not path.is_dir():
            raise ModelError(
                "no default model comes with this installation",
                remedy="train one (detectclf train-detector, train-classifier, bundle) and give it with --model DIR",
            )
    config = load_recipe(PredictConfig, flags={"runtime": runtime, "device": device})
    return Predictor(load_bundle(Path(path)), config)


def load_runs(runs: Mapping[str, str | Path], config: PredictConfig | None = None) -> Predictor:
    """A predictor of run directories that were not bundled, with default fusion and uncalibrated probabilities.

    Args:
        runs: kind of stage, a key of :data:`detectclf.models.stage.STAGES` -> run directory, of each kind one.
        config: batch size, device and runtime; runs have no graphs, so that ``auto`` is torch.

    Raises:
        ModelError: a folder is not a run of that kind of stage, or the stages have different classes.
        DeviceError: the device is not available.
    """
    from detectclf.models.bundle import Bundle
    from detectclf.models.stage import STAGES
    from detectclf.models.stage_files import load_stage

    folders = {kind: Path(runs[kind]) for kind in STAGES}
    stages = {kind: load_stage(run, kind) for kind, run in folders.items()}
    classes = stages["classifier"].classes
    bundle = Bundle(
        name="+".join(run.name for run in folders.values()),
        version="unbundled",
        classes=classes,
        negative=stages["classifier"].meta.negative,
        stages=stages,
        fusion=default_fusion(classes),
    )
    config = config or PredictConfig()
    return Predictor(bundle, config.model_copy(update={"runtime": "torch"}) if config.runtime == "auto" else config)
