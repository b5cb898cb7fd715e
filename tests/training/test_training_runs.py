"""A run directory holds what it says, refuses what is not one, and never loses a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training_helpers import read_history

from detectclf.config import AugmentConfig, ClassifierRecipe, DetectorRecipe, TrainingConfig
from detectclf.errors import ConfigError, DataError, DeviceError, ModelError
from detectclf.models.device import resolve_device, resolve_precision
from detectclf.training.checkpoints import save_checkpoint
from detectclf.training.environment import describe_environment, seed_everything
from detectclf.training.runs import Run, count_slices
from detectclf.types import Dataset, Sample


def begun(path: Path, recipe: ClassifierRecipe) -> Run:
    """A run that has a checkpoint."""
    run = Run.create(path, recipe)
    save_checkpoint(run.last, {"model": {"w": torch.zeros(1)}}, {})
    return run


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    recipe = DetectorRecipe(training=TrainingConfig(epochs=3))
    run = Run.create(tmp_path / "deep" / "run", recipe)
    assert DetectorRecipe.model_validate(run.settings()) == recipe


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    recipe = ClassifierRecipe()
    begun(tmp_path / "run", recipe)
    with pytest.raises(DataError, match=r"already holds a run.*--resume"):
        Run.create(tmp_path / "run", recipe)
    assert Run.create(tmp_path / "run", recipe, resume=True).path == tmp_path / "run"


def test_a_setting_that_is_newer_than_a_run_does_not_keep_it_from_going_on(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", ClassifierRecipe())
    settings = run.settings()
    del settings["augment"]["tone"]
    run.write_text("config.yaml", yaml.safe_dump(settings))
    Run.create(tmp_path / "run", ClassifierRecipe(), resume=True)
    run.write_text("config.yaml", yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"augment.tone = 0.0, not 0.5"):
        Run.create(tmp_path / "run", ClassifierRecipe(augment=AugmentConfig(tone=0.5)), resume=True)


def test_a_run_that_never_began_can_be_started_again(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", ClassifierRecipe())
    recipe = ClassifierRecipe(training=TrainingConfig(lr=0.5))
    assert (
        yaml.safe_load((Run.create(tmp_path / "run", recipe).path / "config.yaml").read_text())["training"]["lr"] == 0.5
    )


def test_a_run_started_again_forgets_the_slices_of_the_failed_start(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", ClassifierRecipe())
    (run.path / "fingerprints.safetensors").write_bytes(b"of other slices")
    Run.create(tmp_path / "run", ClassifierRecipe())
    assert not (run.path / "fingerprints.safetensors").exists()
    (begun(tmp_path / "run", ClassifierRecipe()).path / "fingerprints.safetensors").write_bytes(b"of these slices")
    Run.create(tmp_path / "run", ClassifierRecipe(), resume=True)
    assert (run.path / "fingerprints.safetensors").read_bytes() == b"of these slices"


def test_resume_wants_the_same_slices(tmp_path: Path) -> None:
    slices = [Sample(tmp_path / n, n, "train", label) for n, label in (("a.jpg", "glioma"), ("b.jpg", "no_tumor"))]
    data = Dataset(tuple(slices), ("glioma", "no_tumor"), "no_tumor", ("export",))
    run = begun(tmp_path / "run", ClassifierRecipe())
    run.describe_data(data, slices, slices)
    Run.create(tmp_path / "run", ClassifierRecipe(), resume=True).describe_data(data, slices, slices)
    for act in (lambda: run.describe_data(data, slices[:1], slices), lambda: run.check_data(slices[:1], slices)):
        with pytest.raises(DataError, match=r"labels for train have changed.*another --out"):
            act()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file", "is a file"),  # --out names a file
        ("folder", "not empty and not a run directory"),  # somebody's holiday pictures
    ],
)
def test_other_peoples_things_stay(tmp_path: Path, content: str, words: str) -> None:
    out = tmp_path / "out"
    if content == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=words):
        Run.create(out, ClassifierRecipe(), resume=True)


@pytest.mark.parametrize(
    ("training", "fits"),
    [
        ({"epochs": 99, "device": "cpu"}, True),  # longer, elsewhere: the same training goes on
        ({"lr": 0.5}, False),  # another training
    ],
)
def test_resume_wants_the_same_settings(tmp_path: Path, training: dict[str, object], fits: bool) -> None:
    begun(tmp_path / "run", ClassifierRecipe())
    recipe = ClassifierRecipe(training=ClassifierRecipe().training.model_copy(update=training))
    if fits:
        Run.create(tmp_path / "run", recipe, resume=True)
    else:
        with pytest.raises(ConfigError, match=r"training\.lr"):
            Run.create(tmp_path / "run", recipe, resume=True)


def test_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a run directory"):
        Run.open(tmp_path)
    Run.create(tmp_path / "run", ClassifierRecipe())
    with pytest.raises(ModelError, match="no model yet"):
        Run.open(tmp_path / "run")


def test_only_the_main_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = Run.create(tmp_path / "run", ClassifierRecipe())
    run.write_json("env.json", {})
    run.write_history([])
    assert not (tmp_path / "run").exists()


def test_history_curves_and_tensorboard(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", ClassifierRecipe())
    assert not (run.path / "metrics.jsonl").exists()
    record = {"epoch": 1, "loss": 0.5, "losses": {"a": 0.5}, "lr": 0.1, "metrics": {"accuracy": None, "macro_f1": 0.2}}
    run.write_history([record])
    run.write_history([record, record | {"epoch": 2}])
    assert [r["epoch"] for r in read_history(run.path)] == [1, 2] and read_history(run.path)[0] == record
    run.write_curves(read_history(run.path), 2)
    assert (run.path / "curves.png").stat().st_size > 5000
    if pytest.importorskip("tensorboard"):
        assert list((run.path / "tensorboard").iterdir())


def test_data_json_tells_counts_and_changes_with_a_label(tmp_path: Path) -> None:
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
    first = Sample(tmp_path / "a", "a.jpg", "train", "glioma", boxes, ("glioma",), True)
    second = Sample(tmp_path / "b", "b.jpg", "train", "no_tumor")
    run = Run.create(tmp_path / "run", ClassifierRecipe())
    run.describe_data(Dataset((first, second), ("glioma", "no_tumor"), "no_tumor", ("export",)), [first, second], [])
    document = json.loads((run.path / "data.json").read_text())
    assert document["train"]["classes"] == {"glioma": 1, "no_tumor": 1} and document["train"]["boxed"] == 1
    assert document["train"]["patients"] == document["train"]["slices_with_patient"] == 0
    of_one = count_slices([replace(first, patient="anon-x"), replace(second, patient="anon-x"), second])
    assert (of_one["patients"], of_one["slices_with_patient"], of_one["samples"]) == (1, 2, 3)
    assert count_slices([replace(first, patient="anon-x"), second])["sha256"] == document["train"]["sha256"], "no id"
    relabelled = Sample(tmp_path / "b", "b.jpg", "train", "glioma")
    assert count_slices([first, relabelled])["sha256"] != document["train"]["sha256"]


def test_environment_names_no_machine_and_no_user() -> None:
    facts = describe_environment(torch.device("cpu"), "fp32", 1)
    assert facts["libraries"]["torch"] == torch.__version__.split("+")[0] or facts["libraries"]["torch"]
    assert "/" not in facts["command"][0]
    json.dumps(facts, allow_nan=False)


def test_seeds_reach_every_generator() -> None:
    import random

    def draw(*key: int) -> tuple[float, float, float]:
        seed_everything(*key)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert all(a != b for a, b in zip(draw(0, 1, 2), draw(0, 2, 1), strict=True))


@pytest.mark.parametrize("name", ["tpu9", "cpu:1", "cuda:x", "cuda:99", ""])
def test_device_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(DeviceError):
        resolve_device(name)


def test_a_gpu_number_that_is_not_there_is_one_line_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match=r"'cuda:9' is not there: 1 GPU, counted from 0; use --device cuda"):
        resolve_device("cuda:9")


def test_device_auto_is_there() -> None:
    device = resolve_device("auto")
    assert torch.zeros(1, device=device).device.type == device.type
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda"):
            resolve_device("cuda")


def test_precision_is_one_that_the_device_has() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) in ("fp32", "bf16")
    assert resolve_precision("bf16", cpu) == "bf16"
    with pytest.raises(DeviceError, match="fp16"):
        resolve_precision("fp16", cpu)
