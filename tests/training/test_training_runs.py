"""A run directory holds what it says, refuses what is not one, and never loses a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from training_helpers import read_history

from detectclf.config import AugmentConfig, ClassifierRecipe, DataConfig, DetectorRecipe, TrainingConfig
from detectclf.errors import ConfigError, DataError, DeviceError, ModelError, TrainingError
from detectclf.models.device import resolve_device, resolve_precision
from detectclf.training import run_folder
from detectclf.training.checkpoints import save_checkpoint
from detectclf.training.data_record import data_record, describe_slices
from detectclf.training.environment import describe_environment, seed_everything
from detectclf.training.runs import Run
from detectclf.types import Dataset, Sample


def begun(path: Path, recipe: ClassifierRecipe) -> Run:
    """A run that has a checkpoint; no process trains it any more."""
    with Run.create(path, recipe) as run:
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
    with Run.create(tmp_path / "run", ClassifierRecipe()) as run:
        (run.path / "fingerprints.safetensors").write_bytes(b"of other slices")
    Run.create(tmp_path / "run", ClassifierRecipe())
    assert not (run.path / "fingerprints.safetensors").exists()
    (begun(tmp_path / "run", ClassifierRecipe()).path / "fingerprints.safetensors").write_bytes(b"of these slices")
    Run.create(tmp_path / "run", ClassifierRecipe(), resume=True)
    assert (run.path / "fingerprints.safetensors").read_bytes() == b"of these slices"


def record(*slices: tuple[Sample, bytes]) -> dict[str, Any]:
    """The content of data.json, with the same slices in both splits: ``(sample, its content)``."""
    samples, contents = [s for s, _ in slices], [c for _, c in slices]
    described = describe_slices(samples, contents)
    return data_record(Dataset(tuple(samples), ("glioma", "no_tumor"), "no_tumor", ("export",)), described, described)


def slice_at(path: str, label: str = "glioma") -> Sample:
    """A slice in a file that need not be there."""
    return Sample(Path(path), Path(path).name, "train", label)


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ([(slice_at("/moved/a.jpg"), b"a"), (slice_at("/moved/b.jpg"), b"b")], True),  # the data were moved
        ([(slice_at("/data/x.jpg"), b"a"), (slice_at("/data/y.jpg"), b"b")], True),  # or renamed
        ([(slice_at("/data/a.jpg"), b"a"), (slice_at("/data/b.jpg"), b"c")], False),  # another picture of that name
        ([(slice_at("/data/a.jpg"), b"a"), (slice_at("/data/b.jpg", "no_tumor"), b"b")], False),  # another label
        ([(slice_at("/data/b.jpg"), b"b"), (slice_at("/data/a.jpg"), b"a")], False),  # another order of training
        ([(slice_at("/data/a.jpg"), b"a")], False),  # a slice less
    ],
)
def test_a_run_knows_its_slices_by_their_content(
    tmp_path: Path, now: list[tuple[Sample, bytes]], same: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before = record((slice_at("/data/a.jpg"), b"a"), (slice_at("/data/b.jpg"), b"b"))
    with begun(tmp_path / "run", ClassifierRecipe()) as run:
        run.write_history([{"epoch": 1}])
        run.write_data(before)
    data = DataConfig(sources=(Path("/moved"),))
    with Run.create(tmp_path / "run", ClassifierRecipe(data=data), resume=True) as run:
        if same:
            assert not run.check_data(record(*now))
        else:
            with pytest.raises(DataError, match=r"for train and valid have changed.*--allow-changed-data"):
                run.check_data(record(*now))
            assert run.check_data(record(*now), allow_changed=True) and "have changed" in caplog.text
        run.write_data(record(*now))
        run.write_data(record(*now))  # the next resume
    written = json.loads((run.path / "data.json").read_text())
    assert written["train"] == record(*now)["train"]
    assert written.get("changes") == (
        None if same else [{"epochs": 1, "train": before["train"], "valid": before["valid"]}]
    )


def test_a_run_of_a_version_that_kept_other_hashes_goes_on(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", ClassifierRecipe())
    run.write_json("data.json", {"train": {"samples": 1, "sha256": "of names"}, "valid": {}})
    run.write_data(record((slice_at("/data/a.jpg"), b"a")))
    assert not run.check_data(record((slice_at("/data/a.jpg"), b"a")))
    with pytest.raises(DataError, match="have changed"):
        run.check_data(record((slice_at("/data/a.jpg"), b"c")))


def test_folders_of_masks_may_move_if_that_is_said(tmp_path: Path) -> None:
    begun(tmp_path / "run", ClassifierRecipe(data=DataConfig(lesion_masks=Path("/before"))))
    moved = ClassifierRecipe(data=DataConfig(lesion_masks=Path("/now")))
    with pytest.raises(ConfigError, match=r"data\.lesion_masks"):
        Run.create(tmp_path / "run", moved, resume=True)
    Run.create(tmp_path / "run", moved, resume=True, allow_changed_data=True).close()


def test_a_second_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "LOCK_WAIT_S", 0.1)
    with Run.create(tmp_path / "run", ClassifierRecipe()):
        for resume in (False, True):
            with pytest.raises(TrainingError, match="another process is training into this folder") as caught:
                Run.create(tmp_path / "run", ClassifierRecipe(), resume=resume)
            assert "\n" not in str(caught.value)
    begun(tmp_path / "run", ClassifierRecipe())
    with pytest.raises(DataError, match="already holds a run"):
        Run.create(tmp_path / "run", ClassifierRecipe())
    Run.create(tmp_path / "run", ClassifierRecipe(), resume=True).close()  # what is refused holds nothing


def test_what_a_killed_training_left_is_removed(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", ClassifierRecipe())
    leftovers = [folder / f".{'0' * 16}.partial" for folder in (run.path, run.last)]
    leftovers.append(run.last / ".tmpQBP84n")  # of earlier versions
    (run.path / "notes.partial").write_text("mine")
    for path in leftovers:
        path.write_bytes(b"half")
    with Run.create(run.path, ClassifierRecipe(), resume=True):
        assert not any(path.exists() for path in leftovers) and (run.path / "notes.partial").exists()


def test_a_training_killed_before_its_first_file_can_be_started_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / f".{'0' * 16}.partial").write_bytes(b"half a config.yaml")
    Run.create(run, ClassifierRecipe()).close()
    assert sorted(path.name for path in run.iterdir() if path.name != ".lock") == ["config.yaml"]


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


def test_history_and_curves(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", ClassifierRecipe())
    assert not (run.path / "metrics.jsonl").exists()
    record = {"epoch": 1, "loss": 0.5, "losses": {"a": 0.5}, "lr": 0.1, "metrics": {"accuracy": None, "macro_f1": 0.2}}
    run.write_history([record])
    run.write_history([record, record | {"epoch": 2}])
    assert [r["epoch"] for r in read_history(run.path)] == [1, 2] and read_history(run.path)[0] == record
    run.write_curves(read_history(run.path), 2)
    assert (run.path / "curves.png").stat().st_size > 5000


def described(*samples: Sample) -> dict[str, Any]:
    """Slices whose content is their name."""
    return describe_slices(samples, [s.name.encode() for s in samples])


def test_data_json_tells_counts_and_changes_with_a_label(tmp_path: Path) -> None:
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
    first = Sample(tmp_path / "a", "a.jpg", "train", "glioma", boxes, ("glioma",), True)
    second = Sample(tmp_path / "b", "b.jpg", "train", "no_tumor")
    run = Run.create(tmp_path / "run", ClassifierRecipe())
    dataset = Dataset((first, second), ("glioma", "no_tumor"), "no_tumor", ("export",))
    run.write_data(data_record(dataset, described(first, second), described()))
    document = json.loads((run.path / "data.json").read_text())
    assert document["train"]["classes"] == {"glioma": 1, "no_tumor": 1} and document["train"]["boxed"] == 1
    assert document["train"]["patients"] == document["train"]["slices_with_patient"] == 0
    known = replace(first, patient="anon-x")
    of_one = described(known, replace(second, patient="anon-x"), second)
    assert (of_one["patients"], of_one["slices_with_patient"], of_one["samples"]) == (1, 2, 3)
    assert described(known, second)["content_sha256"] == document["train"]["content_sha256"], "no id"
    relabelled = Sample(tmp_path / "b", "b.jpg", "train", "glioma")
    assert described(first, relabelled)["content_sha256"] != document["train"]["content_sha256"]


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
