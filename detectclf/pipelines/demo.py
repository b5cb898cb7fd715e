"""``detectclf demo``: the whole way on the embedded sample data, with nothing to download."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectclf.config import (
    BundleConfig,
    BundleRecipe,
    ClassifierRecipe,
    DataConfig,
    DetectorRecipe,
    EvaluateRecipe,
    PredictConfig,
)
from detectclf.errors import DataError
from detectclf.files import atomic_write
from detectclf.pipelines.bundle import bundle
from detectclf.pipelines.evaluate import evaluate
from detectclf.pipelines.predict import predict
from detectclf.pipelines.train import train_classifier, train_detector
from detectclf.recipes import load_recipe

log = logging.getLogger(__name__)

SLICES = 480
"""Drawn slices: enough to learn from in the minutes that a first look may take."""

MARKER = "made-by-detectclf-demo.txt"
"""File that marks a demo's folder; other folders may happen to hold a ``data/`` too."""


@dataclass(frozen=True, slots=True)
class Demo:
    """Where the demo left its results."""

    report: Path
    picture: Path
    table: str
    mAP50: float | None  # noqa: N815 - the field's name for it
    accuracy: float | None
    seconds: float

    def to_record(self) -> dict[str, Any]:
        """The JSON object of ``demo --json``."""
        return {
            "report": str(self.report),
            "picture": str(self.picture),
            "mAP50": self.mAP50,
            "accuracy": self.accuracy,
            "seconds": round(self.seconds, 1),
        }


def run_demo(out: Path, *, seed: int = 0, quiet: bool = False) -> Demo:
    """Writes sample data into ``out``, trains both stages, bundles, evaluates the test split, predicts with pictures.

    A second run in the same folder starts afresh in it; a folder with anything else in it is refused.

    Raises:
        DataError: ``out`` holds something that is not an earlier demo.
    """
    from detectclf.sample_data.export import write_sample_data

    began = time.perf_counter()
    _make_room(out)
    log.info("1/5 drawing %d sample slices", SLICES)
    sample = write_sample_data(out / "data", n=SLICES, seed=seed)
    data = DataConfig(sources=(str(sample),))
    flags = {"data.sources": [str(sample)], "training.seed": seed}
    log.info("2/5 training a detector (box stage)")
    detector = out / "detector"
    train_detector(load_recipe(DetectorRecipe, "demo-detector", flags=flags), detector, quiet=quiet)
    log.info("3/5 training a classifier (class stage)")
    classifier = out / "classifier"
    train_classifier(load_recipe(ClassifierRecipe, "demo-classifier", flags=flags), classifier, quiet=quiet)
    log.info("4/5 bundling on the valid split, evaluating on the test split")
    folder = out / "bundle"
    recipe = BundleRecipe(data=data, bundle=BundleConfig(name="detectclf-demo"))
    bundle({"detector": detector, "classifier": classifier}, recipe, "valid", folder)
    done = evaluate(EvaluateRecipe(data=data), "test", model=folder, out=out / "evaluation", command="detectclf demo")
    log.info("5/5 predicting with pictures")
    pictures = out / "predictions"
    inputs = _one_of_each(data)
    predict([str(p) for p in inputs], PredictConfig(), model=folder, out=pictures, visualize=True)
    combined = done.report.content.combined
    return Demo(
        report=out / "evaluation" / "report.html",
        picture=pictures / f"{inputs[0].stem}.pred.png",
        table=done.table,
        mAP50=combined.boxes.mAP50,
        accuracy=combined.classification.accuracy,
        seconds=time.perf_counter() - began,
    )


def _make_room(out: Path) -> None:
    import shutil

    ours = {"data", "detector", "classifier", "bundle", "evaluation", "predictions"}
    if out.exists() and not out.is_dir():
        raise DataError("is a file, not a folder", file=out, remedy="choose another --out")
    present = {p.name for p in out.iterdir()} if out.is_dir() else set()
    if present and (MARKER not in present or present - ours - {MARKER}):
        raise DataError(
            "is not empty and not just an earlier demo", file=out, remedy="choose another --out, or empty it"
        )
    for name in present - {MARKER}:
        shutil.rmtree(out / name)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / MARKER, "Written by `detectclf demo`, which starts afresh in this folder when run again.\n")


def _one_of_each(data: DataConfig) -> list[Path]:
    """A test slice of every class, one with a tumour first."""
    from detectclf.datasets.dataset import open_dataset, require_split

    test = require_split(open_dataset(data), "test")
    first: dict[str | None, Path] = {}
    for sample in test.samples:
        first.setdefault(sample.label, sample.path)
    return sorted(first.values(), key=lambda p: p == first.get(test.negative))
