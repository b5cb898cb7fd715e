"""Predictors by name: of the packaged bundle, of a bundle's folder, of run directories."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from detectclf.config import PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.fusion import default_fusion
from detectclf.inference.predictor import Predictor


def default_bundle() -> Path:
    """Where the packaged default bundle lies, or would lie."""
    return Path(str(resources.files("detectclf"))) / "assets" / "default"


def load(path: str | Path | None = None, *, device: str = "auto") -> Predictor:
    """A predictor of the bundle in the folder ``path``; of the packaged default bundle without one.

    Raises:
        ModelError: no bundle is there, or it cannot be used.
        DeviceError: the device is not there.
    """
    from detectclf.models.bundle import load_bundle

    if path is None:
        path = default_bundle()
        if not path.is_dir():
            raise ModelError(
                "no default model comes with this installation",
                remedy="train one (detectclf train-detector, train-classifier, bundle) and give it with --model DIR",
            )
    return Predictor(load_bundle(Path(path)), PredictConfig(device=device))


def load_runs(
    detector: str | Path,
    classifier: str | Path,
    config: PredictConfig | None = None,
    *,
    refiner: str | Path | None = None,
    tta: bool = False,
) -> Predictor:
    """A predictor of run directories that were not bundled: default fusion, probabilities not calibrated.

    Raises:
        ModelError: a folder is no run of that kind, or the two do not go together.
        DeviceError: the device is not there.
    """
    from detectclf.models.bundle import Bundle
    from detectclf.models.rebuild import load_classifier, load_detector, load_refiner

    detector_model, detector_meta = load_detector(Path(detector))
    classifier_model, classifier_meta = load_classifier(Path(classifier))
    refiner_model, refiner_meta = (None, None) if refiner is None else load_refiner(Path(refiner))
    bundle = Bundle(
        name="+".join(Path(run).name for run in (detector, classifier, refiner) if run is not None),
        version="unbundled",
        classes=tuple(classifier_meta.classes),
        negative=classifier_meta.negative,
        detector=detector_model,
        detector_meta=detector_meta,
        classifier=classifier_model,
        classifier_meta=classifier_meta,
        fusion=replace(default_fusion(classifier_meta.classes), tta=tta),
        facts={},
        refiner=refiner_model,
        refiner_meta=refiner_meta,
    )
    return Predictor(bundle, config or PredictConfig())
