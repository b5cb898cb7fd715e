"""Cross-validation end to end on drawn slices: fold runs, a bundle fitted out of fold, its label doctor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detectclf.config import BundleConfig, BundleRecipe, ClassifierRecipe, DataConfig, DetectorRecipe, PredictConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.duplicates.copies import find_copies
from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE, Fingerprints, fingerprint
from detectclf.errors import ConfigError, ModelError
from detectclf.imaging.images import read_image
from detectclf.inference.loading import load
from detectclf.models.bundle import load_bundle
from detectclf.pipelines.bundle import bundle
from detectclf.pipelines.out_of_fold import FoldRun, groups_and_provenance, out_of_fold
from detectclf.pipelines.suspect_labels import find_suspect_labels, write_suspect_sheet
from detectclf.pipelines.train import train_classifier, train_detector
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data
from detectclf.types import Pixels

FOLDS = 2
SMALL = {
    "detector": {"model.arch": "fasterrcnn_small_fpn", "model.image_size": 96, "training.batch_size": 4},
    "classifier": {"model.arch": "cnn", "model.image_size": 32, "training.batch_size": 8},
}
KINDS: dict[str, tuple[Any, Any]] = {
    "detector": (DetectorRecipe, train_detector),
    "classifier": (ClassifierRecipe, train_classifier),
}


def train(kind: str, source: Path, out: Path, held: tuple[int, ...] | None, weights: str | Path = "none") -> Path:
    """A run with folds held out, of everything (``()``), or on the published splits (``None``)."""
    recipe, run = KINDS[kind]
    folds = {} if held is None else {"data.folds": FOLDS, "data.held_out": list(held)}
    flags = {
        "data.sources": [str(source)],
        **folds,
        "model.weights": str(weights),
        "training.epochs": 1,
        "training.device": "cpu",
        "training.precision": "fp32",
        "augment.enabled": False,
        **SMALL[kind],
    }
    run(load_recipe(recipe, flags=flags), out, quiet=True)
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_data(tmp_path_factory.mktemp("oof") / "data", n=48, seed=0)


@pytest.fixture(scope="module")
def runs(source: Path) -> Path:
    folder = source.parent / "runs"
    for kind in KINDS:
        for fold in range(FOLDS):
            train(kind, source, folder / f"{kind}{fold}", (fold,))
    return folder


@pytest.fixture(scope="module")
def bundled(source: Path, runs: Path) -> Path:
    final = {kind: train(kind, source, source.parent / "final" / kind, ()) for kind in KINDS}
    out = source.parent / "bundle"
    recipe = BundleRecipe(
        data=DataConfig(sources=(source,)), bundle=BundleConfig(export=False), predict=PredictConfig(device="cpu")
    )
    summary = bundle(final, recipe, "valid", out, folds=runs, report=source.parent / "report")
    assert summary["split"] == "out of fold" and summary["samples"] == 48
    return out


def test_every_slice_is_judged_by_runs_that_had_not_seen_it(source: Path, runs: Path) -> None:
    found = out_of_fold(runs, DataConfig(sources=(source,)), PredictConfig(device="cpu"), SliceIndex())
    assert len(found.outputs) == len(found.dataset.samples) == 48 and set(found.folds) == {0, 1}
    # What the fold's own run says of a slice, asked directly.
    from detectclf.inference.loading import load_runs

    direct = load_runs({kind: runs / f"{kind}1" for kind in ("detector", "classifier")}, PredictConfig(device="cpu"))
    index = found.folds.index(1)
    said = next(iter(direct.raw_many([found.dataset.samples[index]])))
    assert np.allclose(said.classifier_logits, found.outputs[index].classifier_logits, atol=1e-4)


def test_the_bundle_holds_all_that_was_fitted(bundled: Path) -> None:
    bundle = load_bundle(bundled)
    assert bundle.ood is not None and bundle.out_of_fold is not None
    assert len(bundle.out_of_fold.digests) == 48
    report = json.loads((bundled.parent / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["data"]["split"] == "out of fold" and "gain" in report["combined"]


def test_the_label_doctor_takes_out_of_fold_words(source: Path, bundled: Path, tmp_path: Path) -> None:
    samples = open_dataset(DataConfig(sources=(source,))).samples
    found = find_suspect_labels(samples, load(bundled, device="cpu"))
    assert all(opinion.unseen for opinion in found.opinions), "all were trained on, so all words are remembered"
    suspicion = [s.suspicion for s in found.suspects]
    assert suspicion == sorted(suspicion, reverse=True) and "suspect labels" in found.text()
    write_suspect_sheet(found, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_runs_that_cannot_serve_are_refused(source: Path, runs: Path, tmp_path: Path) -> None:
    data, predict = DataConfig(sources=(source,)), PredictConfig(device="cpu")
    with pytest.raises(ModelError, match="no runs with folds"):
        out_of_fold(tmp_path, data, predict, SliceIndex())
    with pytest.raises(ConfigError, match="without a limit"):
        out_of_fold(runs, DataConfig(sources=(source,), limit=4), predict, SliceIndex())
    for run in runs.iterdir():
        (tmp_path / run.name).symlink_to(run)
    (tmp_path / "again").symlink_to(runs / "detector0")
    with pytest.raises(ModelError, match="several runs of a detector hold out fold 0: again, detector0"):
        out_of_fold(tmp_path, data, predict, SliceIndex())
    (tmp_path / "again").unlink()
    (tmp_path / "detector0").unlink()
    with pytest.raises(ModelError, match="no run of a detector holds out fold 0"):
        out_of_fold(tmp_path, data, predict, SliceIndex())


def test_what_a_run_has_seen_counts_and_not_how_slices_are_dealt_now(
    source: Path, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predict = PredictConfig(device="cpu")
    first = out_of_fold(runs, DataConfig(sources=(source,)), predict, SliceIndex())
    fold = {s.name: k for s, k in zip(first.dataset.samples, first.folds, strict=True)}
    newer = write_sample_data(tmp_path / "newer", n=24, seed=1)
    grown = out_of_fold(runs, DataConfig(sources=(newer, source)), predict, SliceIndex())
    assert len(grown.outputs) == 72 and grown.left_out == 0
    known = [(s, k) for s, k in zip(grown.dataset.samples, grown.folds, strict=True) if s.source == str(source)]
    assert len(known) == 48 and all(fold[s.name] == k for s, k in known)
    assert {k for s, k in zip(grown.dataset.samples, grown.folds, strict=True) if s.source == str(newer)} == {0, 1}

    # The run of fold 0 learns of three of its slices after all; then nobody can be asked about them.
    (tmp_path / "runs").mkdir()
    for run in runs.iterdir():
        if run.name != "classifier0":
            (tmp_path / "runs" / run.name).symlink_to(run)
    told = tmp_path / "runs" / "classifier0"
    shutil.copytree(runs / "classifier0", told)
    leaked = [s for s, k in zip(first.dataset.samples, first.folds, strict=True) if k == 0][:3]
    before = Fingerprints.load(told / FINGERPRINTS_FILE)
    Fingerprints.merged([before, SliceIndex().look_up(leaked).fingerprints]).save(told / FINGERPRINTS_FILE)
    found = out_of_fold(tmp_path / "runs", DataConfig(sources=(source,)), predict, SliceIndex())
    assert found.left_out >= 3 and len(found.outputs) == 48 - found.left_out
    assert not {s.name for s in leaked} & {s.name for s in found.dataset.samples}
    assert f"{found.left_out} of 48 slices are left out" in caplog.text

    other = tmp_path / "runs" / "classifier1"
    other.unlink()
    shutil.copytree(runs / "classifier1", other)
    for run in (told, other):
        SliceIndex().look_up(first.dataset.samples).fingerprints.save(run / FINGERPRINTS_FILE)
    with pytest.raises(ModelError, match="were trained on all slices"):
        out_of_fold(tmp_path / "runs", DataConfig(sources=(source,)), predict, SliceIndex())
    (told / FINGERPRINTS_FILE).unlink()
    with pytest.raises(ModelError, match="keeps no record"):
        out_of_fold(tmp_path / "runs", DataConfig(sources=(source,)), predict, SliceIndex())


def test_a_copy_by_way_of_a_slice_that_only_runs_know_is_seen(source: Path, tmp_path: Path) -> None:
    """A slice, it cropped to 0.8 and to 0.64: the last is found to be a copy only of the middle one."""
    seen_by_way = 0
    for number, sample in enumerate(open_dataset(DataConfig(sources=(source,))).samples[:12]):
        first, middle, last = (_of_pixels(_cropped(read_image(sample.path), share)) for share in (1, 0.8, 0.64))
        if find_copies(Fingerprints.merged([first, last])):
            continue
        knows_first, knows_middle = (
            FoldRun(tmp_path / f"{number}-{name}", "classifier", 2, (k,), 0)
            for k, name in enumerate(("first", "middle"))
        )
        for run, prints in ((knows_first, first), (knows_middle, middle)):
            run.path.mkdir()
            prints.save(run.path / FINGERPRINTS_FILE)
        known = groups_and_provenance(last, [knows_first, knows_middle], SliceIndex())
        seen_by_way += known.groups[0] in known.trained_on[knows_first.path]
    assert seen_by_way >= 3


def test_runs_of_other_classes_are_not_mixed(source: Path, runs: Path, tmp_path: Path) -> None:
    for run in runs.iterdir():
        if run.name != "classifier1":
            (tmp_path / run.name).symlink_to(run)
    shutil.copytree(runs / "classifier1", tmp_path / "classifier1")
    meta = json.loads((tmp_path / "classifier1" / "model.json").read_text(encoding="utf-8"))
    meta["classes"] = meta["classes"][::-1]
    (tmp_path / "classifier1" / "model.json").write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(ModelError, match="detector1, classifier1: other classes than in the runs"):
        out_of_fold(tmp_path, DataConfig(sources=(source,)), PredictConfig(device="cpu"), SliceIndex())


def test_a_model_without_a_record_leaves_none_to_those_that_start_from_it(
    source: Path, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "classifier0", tmp_path / "unrecorded")
    (tmp_path / "unrecorded" / FINGERPRINTS_FILE).unlink()
    for name, held in (("published", None), ("final", ())):
        heir = train("classifier", source, tmp_path / name, held, tmp_path / "unrecorded")
        assert not (heir / FINGERPRINTS_FILE).exists()
        with pytest.raises(ModelError, match="keeps no record"):
            train("classifier", source, tmp_path / "folds", (0,), heir)


def _cropped(pixels: Pixels, share: float) -> Pixels:
    height, width = pixels.shape
    y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return np.asarray(cv2.resize(pixels[y : height - y, x : width - x], (width, height)), dtype=np.uint8)


def _of_pixels(pixels: Pixels, name: str = "slice") -> Fingerprints:
    return Fingerprints(fingerprint(pixels), (name,), ("train",), ("here",))


def _prints(text: str) -> Fingerprints:
    pixels = np.random.default_rng(list(text.encode())).integers(0, 255, (64, 64), dtype=np.uint8)
    return _of_pixels(pixels, text)


def test_slices_of_one_name_are_not_one_slice() -> None:
    first, second = _prints("a"), _prints("b")
    renamed = Fingerprints(second.rows, first.names, first.splits, first.sources)
    assert Fingerprints.merged([first, renamed]).digests == [*first.digests, *second.digests]
    assert len(Fingerprints.merged([first, _prints("a")])) == 1
    assert len(Fingerprints.merged([])) == 0


def test_a_run_has_seen_what_its_starting_weights_have_seen(
    source: Path, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def start(held: tuple[int, ...] | None, name: str) -> Path:
        return train("classifier", source, tmp_path / name, held, runs / "classifier0")

    before = Fingerprints.load(runs / "classifier0" / FINGERPRINTS_FILE)
    assert len(Fingerprints.load(start((0,), "same") / FINGERPRINTS_FILE)) == len(before)
    with pytest.raises(ModelError, match="validation slices"):
        start((1,), "leaking")
    assert "too good" not in caplog.text
    published = Fingerprints.load(start(None, "published") / FINGERPRINTS_FILE)
    assert len(published) > len(before) and set(before.names) <= set(published.names)
    assert "too good" in caplog.text


def test_a_bundle_names_no_folder_of_the_machine_it_was_made_on(bundled: Path) -> None:
    assert str(bundled.parent) not in (bundled / "bundle.json").read_text(encoding="utf-8")
