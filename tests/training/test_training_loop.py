"""The loop: learns, stops when it must, and goes on as if it had never stopped."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_helpers import Watch, classification_task, detection_task, read_history, train, training, write_samples

from detectclf import progress as progress_module
from detectclf.errors import ConfigError, DataError, ModelError, TrainingError
from detectclf.models.stage_files import load_stage
from detectclf.progress import Progress
from detectclf.training.epoch_text import epoch_line, resumed
from detectclf.training.interruption import Interruption
from detectclf.training.train_state import TrainState
from detectclf.types import Sample


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Ten slices."""
    return write_samples(tmp_path_factory.mktemp("slices"), 10)


def tensors(run: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    """The tensors of a run."""
    if name == "last":
        return load_file(max((run / "last").glob("0*.safetensors")))
    return load_file(run / name)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


def test_classifier_learns_and_the_run_holds_everything(samples: list[Sample], tmp_path: Path) -> None:
    history = train(classification_task(samples), training(epochs=10, lr=2e-3, backbone_lr=2e-3), tmp_path / "run")
    assert history.records[-1]["loss"] < history.records[0]["loss"]
    assert history.best["metrics"]["accuracy"] >= 0.9
    written = {p.name for p in (tmp_path / "run").iterdir()}
    assert written >= {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "model.json",
        "model.safetensors",
        "curves.png",
        "last",
    }
    assert read_history(tmp_path / "run") == history.records
    stage = load_stage(tmp_path / "run", "classifier")
    model, meta = stage.network, stage.meta
    assert meta.training["epoch"] == history.best_epoch and meta.classes == ("glioma", "pituitary")
    image, target = classification_task(samples).valid[0]
    assert model(image[None]).argmax().item() == target["label"]


def test_figures_are_in_original_pixels(samples: list[Sample]) -> None:
    task = detection_task(samples, image_size=96)  # 1.5 times the slices

    class Oracle(nn.Module):
        """Finds every box, in input pixels."""

        def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            return [
                {"boxes": t["boxes"], "labels": t["labels"], "scores": torch.ones(len(t["labels"]))} for t in self.truth
            ]

    from detectclf.datasets.loading import make_loader

    oracle, outputs = Oracle(), {}
    for batch in make_loader(task.valid, batch_size=3, seed=None, workers=0):
        oracle.truth = batch["targets"]
        outputs |= task.outputs(oracle, batch)
    assert task.metrics(outputs)["mAP"] == pytest.approx(1.0)


TWO_PARTS = training(epochs=2, freeze_epochs=1)


@pytest.fixture(scope="module")
def whole(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(classification_task(samples), TWO_PARTS, folder)
    return folder


@pytest.mark.parametrize("stop", [2, 3, 5])  # within the first epoch, at its last step, within the second
def test_interrupted_training_goes_on_exactly(samples: list[Sample], whole: Path, tmp_path: Path, stop: int) -> None:
    def interrupt(step: int) -> None:
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    watch = Watch(interrupt)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(classification_task(samples), TWO_PARTS, tmp_path / "parts", progress=watch)
    assert watch.steps == stop and any("stopping" in note for note in watch.notes)
    assert signal.getsignal(signal.SIGTERM) is before
    parts = train(classification_task(samples), TWO_PARTS, tmp_path / "parts", resume=True)
    uninterrupted = read_history(whole)
    assert [r["losses"] for r in parts.records] == [r["losses"] for r in uninterrupted]
    assert [r["metrics"] for r in parts.records] == [r["metrics"] for r in uninterrupted]
    assert [r["lr"] for r in parts.records] == [r["lr"] for r in uninterrupted]
    assert_equal(tensors(whole), tensors(tmp_path / "parts"))
    assert_equal(tensors(whole, "last"), tensors(tmp_path / "parts", "last"))


def test_detector_learns_and_goes_on_exactly(samples: list[Sample], tmp_path: Path) -> None:
    config = training(epochs=2, batch_size=5, accumulate=2, optimizer="sgd", lr=0.01, backbone_lr=0.01)

    def interrupt(step: int) -> None:
        if step == 1:  # in the middle of an accumulation: it has to wait for the optimiser's step
            os.kill(os.getpid(), signal.SIGINT)

    whole = train(detection_task(samples), config, tmp_path / "whole")
    assert set(whole.best["metrics"]) == {"mAP", "mAP50", "mAP75", "found50"}
    assert whole.records[1]["loss"] < whole.records[0]["loss"]
    load_stage(tmp_path / "whole", "detector")
    watch = Watch(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(detection_task(samples), config, tmp_path / "parts", progress=watch)
    assert watch.steps == 2
    train(detection_task(samples), config, tmp_path / "parts", resume=True)
    assert_equal(tensors(tmp_path / "whole", "last"), tensors(tmp_path / "parts", "last"))


def test_a_full_disk_stops_with_one_line_and_costs_nothing(samples: list[Sample], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    config, run = training(epochs=2, save_every_steps=1), tmp_path / "run"
    train(classification_task(samples), training(epochs=2), tmp_path / "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(step: int) -> None:
        if step == 2:  # there is one checkpoint
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))

    try:
        with pytest.raises(TrainingError, match="cannot be written") as caught:
            train(classification_task(samples), config, run, progress=Watch(fill_the_disk))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value) and len(list((run / "last").iterdir())) == 1, "no half file stays"
    train(classification_task(samples), config, run, resume=True)
    assert_equal(tensors(tmp_path / "whole", "last"), tensors(run, "last"))


def test_the_checkpoint_before_a_damaged_one_gives_the_same_training(
    samples: list[Sample],
    whole: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("detectclf"), "propagate", True)
    config, run = TWO_PARTS.model_copy(update={"save_every_steps": 1}), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        watch = Watch(lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None)
        train(classification_task(samples), config, run, progress=watch)
    newest = max((run / "last").glob("0*"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    train(classification_task(samples), config, run, resume=True)
    # By record: the handler hangs at the root and, after some other tests, at the package's logger too.
    records = {id(record): record for record in caplog.records if "damaged" in record.getMessage()}
    lines = [record.getMessage() for record in records.values()]
    assert len(lines) == 1 and lines[0].endswith("going on from the one before, after 1 epochs and 1 steps")
    assert_equal(tensors(whole, "last"), tensors(run, "last"))
    assert (run / "last" / "damaged.safetensors").read_bytes() == content


def test_two_signals_at_once_are_one_and_another_one_stops_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    with Interruption(notes.append) as interruption:
        for _ in range(2):  # torchrun passes on what the process group got already
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested and len(notes) == 1
        monkeypatch.setattr("detectclf.training.interruption._ONE_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("process", "processes", "steps", "expected"),
    [
        (0, 2, 4, (3, {"a": 1.0})),  # as before
        (1, 2, 4, (3, {"a": 2.0})),  # each process has its own sums
        (0, 1, 4, (3, {"a": 1.5})),  # fewer processes
        (2, 3, 4, (3, {"a": 1.5})),  # more
        (0, 2, 5, (0, {})),  # other data: the epoch is begun again
    ],
)
def test_the_state_suits_the_processes_and_the_data(
    process: int, processes: int, steps: int, expected: tuple[int, dict[str, float]]
) -> None:
    record = TrainState(epoch=1, step=3).to_record([{"a": 1.0}, {"a": 2.0}], 4)
    state = TrainState.from_record(json.loads(json.dumps(record)), process, processes, steps)
    assert (state.step, state.sums) == expected and state.epoch == 1 and state.best == float("-inf")


def test_resume_of_a_finished_run_changes_nothing(samples: list[Sample], tmp_path: Path) -> None:
    first = train(classification_task(samples), training(epochs=1), tmp_path / "run")
    weights = tensors(tmp_path / "run")
    again = train(classification_task(samples), training(epochs=1), tmp_path / "run", resume=True)
    assert again.records == first.records and again.best_epoch == first.best_epoch
    assert_equal(weights, tensors(tmp_path / "run"))


@pytest.mark.parametrize(
    ("epoch", "step", "said"),
    [
        (1, 0, "resumed: goes on with epoch 2/3"),
        (0, 4, "resumed: goes on with epoch 1/3, after 4 of its 9 steps"),
        (3, 0, "resumed: 3 of 3 epochs were done before, so nothing is trained"),
    ],
)
def test_a_resumed_training_says_where_it_goes_on(epoch: int, step: int, said: str) -> None:
    assert resumed(epoch, step, 9, 3) == said


def test_checkpoint_of_another_model_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    train(classification_task(samples), training(epochs=1), tmp_path / "run")
    with pytest.raises(ModelError, match="another model"):
        train(classification_task(samples, norm="group"), training(epochs=1), tmp_path / "run", resume=True)


def test_loss_that_is_not_finite_names_the_files(samples: list[Sample], tmp_path: Path) -> None:
    task = classification_task(samples)
    task.model.head.weight.data.fill_(float("nan"))
    with pytest.raises(
        TrainingError, match=r"loss_class is not finite in epoch 1, batch of slice\d\d\.png, slice"
    ) as e:
        train(task, training(), tmp_path / "run")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run" / "model.json").exists()


def test_frozen_backbone_stands_still_then_moves(samples: list[Sample], tmp_path: Path) -> None:
    task = classification_task(samples)
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    seen: dict[int, dict[str, torch.Tensor]] = {}
    watch = Watch(lambda step: seen.update({step: {n: v.clone() for n, v in task.model.state_dict().items()}}))
    train(task, training(epochs=2, freeze_epochs=1, batch_size=5), tmp_path / "run", progress=watch)
    moved = [name for name, value in seen[2].items() if not torch.equal(value, start[name])]
    assert moved == ["head.weight", "head.bias"]
    assert not torch.equal(seen[4]["network.block1.0.weight"], start["network.block1.0.weight"])


def test_stops_early_and_keeps_the_best(samples: list[Sample], tmp_path: Path) -> None:
    task = classification_task(samples)
    known = iter([0.2, 0.6, 0.5, 0.6, 0.9])

    class Judged(type(task)):  # type: ignore[misc]
        """The same task with metrics known beforehand."""

        def metrics(self, outputs: Any) -> dict[str, float | None]:
            """The next of the list."""
            return {"accuracy": next(known)}

    task.__class__ = Judged
    history = train(task, training(epochs=9, patience=2), tmp_path / "run")
    assert [r["metrics"]["accuracy"] for r in history.records] == [0.2, 0.6, 0.5, 0.6]
    assert history.best_epoch == 4, "of equals the later one"


def test_figures_only_every_few_epochs(samples: list[Sample], tmp_path: Path) -> None:
    history = train(classification_task(samples), training(epochs=5, evaluate_every=2), tmp_path / "run")
    assert [bool(record["metrics"]) for record in history.records] == [False, True, False, True, True]
    assert history.best_epoch in (2, 4, 5), "the best epoch is one that was evaluated"
    assert (tmp_path / "run" / "curves.png").is_file()


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0},  # no average
        {"clip_norm": 0},  # no clipping
        {"precision": "bf16"},  # mixed precision
        {"batch_size": 32},  # more than there are slices
        {"batch_size": 1},  # BatchNorm with one slice
        {"accumulate": 7},  # more batches than an epoch has
    ],
)
def test_settings_work(samples: list[Sample], tmp_path: Path, changes: dict[str, object]) -> None:
    task = classification_task(samples[:4])
    before = task.model.head.weight.clone()
    history = train(task, training(epochs=1, **changes), tmp_path / "run")
    assert history.records[0]["loss"] > 0 and not torch.equal(task.model.head.weight, before)


def test_unreadable_slice_stops_before_training(samples: list[Sample], tmp_path: Path) -> None:
    mine = write_samples(tmp_path / "slices", 4)
    mine[2].path.write_bytes(b"")
    watch = Watch(lambda step: None)
    with pytest.raises(DataError, match=r"slice02\.png"):
        train(classification_task(mine), training(), tmp_path / "run", progress=watch)
    assert watch.steps == 0


def test_batch_that_cannot_be_shared_out() -> None:
    from detectclf.training.processes import global_batch

    assert global_batch(8, 100, 2) == 8 and global_batch(32, 5, 2) == 6 and global_batch(32, 1, 1) == 2
    with pytest.raises(ConfigError, match="multiple of 3"):
        global_batch(8, 100, 3)


def test_balanced_weights_match_scikit_learn(samples: list[Sample]) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    from detectclf.datasets.loading import ClassificationSlices
    from detectclf.training.tasks import balanced_weights

    slices = ClassificationSlices(samples[:5], ("glioma", "no_tumor", "pituitary"), 32)
    weights = balanced_weights(slices)
    expected = compute_class_weight("balanced", classes=np.array([0, 2]), y=slices.labels)
    assert weights.tolist() == pytest.approx([expected[0], 0.0, expected[1]])


def test_epochs_are_told_on_stderr(
    samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "PAUSE_S", 0.0)
    progress = Progress("training", show=True)
    train(classification_task(samples), training(epochs=2), tmp_path / "run", progress=progress)
    out, err = capsys.readouterr()
    assert out == "" and "epoch 1/2: loss " in err and "s left" in err and "slices/s" in err


def test_an_epoch_in_words() -> None:
    record = {
        "epoch": 2,
        "loss": 0.5,
        "metrics": {"mAP": None, "mAP50": 0.25},
        "slices_per_second": 4.0,
        "seconds": 9.6,
    }
    assert epoch_line(record, 3) == "epoch 2/3: loss 0.5000, mAP -, mAP50 0.250, 4.0 slices/s, 10 s"
