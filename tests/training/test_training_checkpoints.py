"""A checkpoint is whole or the one before it, and gives back exactly what was put in."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from detectclf.errors import ModelError, TrainingError
from detectclf.training import checkpoints
from detectclf.training.checkpoints import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "last") is None
    tied = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    tensors = {
        "model": {"a.weight": tied, "b.weight": tied, "n": torch.tensor(3)},
        "optimizer": {"0/step": torch.ones(())},
    }
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path / "last", tensors, {"place": {"epoch": epoch}})
    loaded = load_checkpoint(tmp_path / "last")
    assert loaded is not None and loaded[1]["place"] == {"epoch": 3}
    assert torch.equal(loaded[0]["model"]["b.weight"], tied) and loaded[0]["model"]["n"].item() == 3
    assert loaded[0]["optimizer"]["0/step"].item() == 1
    assert len(list((tmp_path / "last").iterdir())) == 2, "old tensors are removed"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EACCES, "denied")])
def test_failed_write_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    save_checkpoint(tmp_path, {"model": {"w": torch.zeros(2)}}, {"place": 1})

    def fail(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(
        TrainingError, match="disk full" if error.errno == errno.ENOSPC else "cannot be written"
    ) as caught:
        save_checkpoint(tmp_path, {"model": {"w": torch.ones(2)}}, {"place": 2})
    assert "\n" not in str(caught.value) and "--resume" in str(caught.value)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded[1] == {"place": 1} and not loaded[0]["model"]["w"].any()
    assert len(list(tmp_path.iterdir())) == 2, "no half file stays"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_full_disk_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, {"model": {"w": torch.zeros(2)}}, {})
    plain = Path.open

    def on_a_full_disk(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return plain(Path("/dev/full"), "wb") if mode == "xb" else plain(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(TrainingError, match="disk full"):
        save_checkpoint(tmp_path, {"model": {"w": torch.ones(2)}}, {})
    assert load_checkpoint(tmp_path) is not None


def test_a_state_that_cannot_be_replaced_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, {"model": {"w": torch.zeros(2)}}, {"place": 1})

    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(TrainingError, match="disk full"):
        save_checkpoint(tmp_path, {"model": {"w": torch.ones(2)}}, {"place": 2})
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded[1] == {"place": 1} and not loaded[0]["model"]["w"].any()
    assert len(list(tmp_path.iterdir())) == 2, "no half file stays"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{"),  # cut short
        ("state.json", b"[]"),  # another document
        ("state.json", b'{"tensors": "../../etc/passwd"}'),  # a name that leads out
        ("state.json", b'{"tensors": "tensors-a.safetensors", "format": 99}'),  # a later version
        ("tensors-a.safetensors", b"\x00" * 20),  # not safetensors
    ],
)
def test_damaged_checkpoint_is_said(tmp_path: Path, name: str, content: bytes) -> None:
    save_checkpoint(tmp_path, {"model": {"w": torch.zeros(2)}}, {})
    (tmp_path / name).write_bytes(content)
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
