"""A checkpoint is whole, or the one before it is taken; and it gives back exactly what was put in."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import SGD, AdamW

from detectclf import files
from detectclf.errors import ModelError, TrainingError
from detectclf.training.checkpoints import (
    has_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    set_aside,
)


def save(folder: Path, *numbers: int) -> None:
    """Checkpoints of one tensor and a state, all of the same number."""
    for number in numbers:
        save_checkpoint(folder, {"model": {"w": torch.full((2,), float(number))}}, {"place": number})


def loaded(folder: Path) -> int:
    """The number of the newest checkpoint that is whole; tensor and state have to belong together."""
    found = load_checkpoint(folder)
    assert found is not None and found.tensors["model"]["w"].tolist() == [found.state["place"]] * 2
    return int(found.state["place"])


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "last") is None and not has_checkpoint(tmp_path / "last")
    tied = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    tensors = {
        "model": {"a.weight": tied, "b.weight": tied, "n": torch.tensor(3)},
        "optimizer": {"0/step": torch.ones(())},
    }
    for epoch in (1, 2, 3, 4):
        save_checkpoint(tmp_path / "last", tensors, {"place": {"epoch": epoch}})
    found = load_checkpoint(tmp_path / "last")
    assert found is not None and found.state == {"place": {"epoch": 4}} and not found.damaged
    assert torch.equal(found.tensors["model"]["b.weight"], tied) and found.tensors["model"]["n"].item() == 3
    assert found.tensors["optimizer"]["0/step"].item() == 1
    assert [p.name[:6] for p in sorted((tmp_path / "last").iterdir())] == ["000003", "000004"], "the oldest are removed"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EACCES, "denied")])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_keeps_the_checkpoints_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, step: str
) -> None:
    save(tmp_path, 1, 2)

    def fail(*_: object) -> None:
        assert {p.name[:6] for p in tmp_path.glob("0*.safetensors")} == {"000001", "000002"}
        raise error

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], fail)
    with pytest.raises(
        TrainingError, match="disk full" if error.errno == errno.ENOSPC else "cannot be written"
    ) as caught:
        save(tmp_path, 3)
    assert "\n" not in str(caught.value) and "--resume" in str(caught.value)
    assert loaded(tmp_path) == 2 and len(list(tmp_path.iterdir())) == 2, "no half file stays"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits of Unix")
def test_a_file_that_may_grow_no_further_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    save(tmp_path, 1)
    done = subprocess.run([sys.executable, "-c", TOO_LARGE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout and done.stdout.count("\n") == 1
    assert loaded(tmp_path) == 1 and len(list(tmp_path.iterdir())) == 1, "no half file stays"


# In a process of its own: the limit cannot be raised again.
TOO_LARGE = """
import resource, sys, torch
from pathlib import Path
from detectclf.errors import TrainingError
from detectclf.training.checkpoints import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
try:
    save_checkpoint(Path(sys.argv[1]), {"model": {"w": torch.ones(2**20)}}, {"place": 2})
except TrainingError as error:
    print(error)
"""


def test_nothing_is_removed_before_the_new_checkpoint_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, 2)
    synced = []

    def sync(folder: Path) -> None:
        synced.append({p.name[:6] for p in folder.iterdir()})

    monkeypatch.setattr(files, "sync_folder", sync)
    save(tmp_path, 3)
    assert synced == [{"000001", "000002", "000003"}]


def flip_a_bit(path: Path, position: int) -> None:
    """Changes one bit of the byte at ``position``, from the end where it is negative."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip_a_bit(path, -1),  # a weight that is a little different
        lambda path: flip_a_bit(path, 20),  # the header
        lambda path: path.write_bytes(path.read_bytes()[:-1]),  # cut short
        lambda path: path.write_bytes(b""),  # as a power cut leaves it without fsync
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),  # likewise
    ],
)
def test_the_checkpoint_before_a_damaged_one_is_taken(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save(tmp_path, 1, 2)
    newest = max(tmp_path.iterdir())
    damage(newest)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.damaged == (newest,) and loaded(tmp_path) == 1
    set_aside(newest)
    save(tmp_path, 3)
    assert loaded(tmp_path) == 3
    damage(max(tmp_path.glob("0*.safetensors")))
    assert loaded(tmp_path) == 1, "a damaged one does not push a good one out"
    damage(min(tmp_path.glob("0*.safetensors")))
    with pytest.raises(ModelError, match="all checkpoints are damaged"):
        load_checkpoint(tmp_path)


def old_checkpoint(folder: Path, content: bytes | None = None) -> None:
    """A checkpoint as versions before 2026-12 wrote it."""
    save_file({"model/w": torch.full((2,), 7.0)}, folder / "tensors-a.safetensors")
    whole = json.dumps({"format": 1, "tensors": "tensors-a.safetensors", "place": 7}).encode()
    (folder / "state.json").write_bytes(whole if content is None else content)


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old_checkpoint(tmp_path)
    assert has_checkpoint(tmp_path) and loaded(tmp_path) == 7
    save(tmp_path, 8)
    flip_a_bit(max(tmp_path.glob("0*.safetensors")), -1)
    assert loaded(tmp_path) == 7, "it is the one before"
    save(tmp_path, 9, 10)
    assert {p.name[:3] for p in tmp_path.iterdir()} == {"000"}, "it goes when there are two new ones"


@pytest.mark.parametrize(
    "content",
    [
        b"{",  # cut short
        b"[]",  # another document
        b'{"format": 1, "tensors": "../../etc/passwd"}',  # a name that leads out
        b'{"tensors": "tensors-a.safetensors", "format": 99}',  # a later version
    ],
)
def test_a_damaged_checkpoint_of_an_earlier_version_is_said(tmp_path: Path, content: bytes) -> None:
    old_checkpoint(tmp_path, content)
    with pytest.raises(ModelError, match="checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_optimizer_goes_on_as_if_never_stopped(kind: type[AdamW] | type[SGD]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    extra = {"momentum": 0.9} if kind is SGD else {}
    optimizer = kind(model.parameters(), lr=0.1, **extra)
    inputs = torch.randn(5, 3)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()

    step(model, optimizer)
    copy = nn.Linear(3, 2)
    copy.load_state_dict(model.state_dict())
    other = kind(copy.parameters(), lr=0.1, **extra)
    restore_optimizer(other, optimizer_tensors(optimizer))
    for _ in range(3):
        step(model, optimizer)
        step(copy, other)
    assert torch.equal(model.weight, copy.weight)
