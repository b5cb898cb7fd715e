"""The device of a training; XLA itself is tested by scripts/test_xla, with an environment of its own."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from detectclf.errors import DeviceError
from detectclf.models.device import resolve_device, resolve_precision
from detectclf.models.xla import compute_now, seed_xla
from detectclf.training.device import training_device

without_xla = pytest.mark.skipif(find_spec("torch_xla") is not None, reason="torch_xla is installed")


@without_xla
def test_xla_without_torch_xla_is_one_line_with_a_remedy() -> None:
    with pytest.raises(DeviceError, match=r"torch_xla is not installed; .*torch_xla\[tpu\].*--device auto"):
        training_device("xla")


def test_prediction_does_not_run_on_xla() -> None:
    with pytest.raises(DeviceError, match="'xla' is for training only; use auto"):
        resolve_device("xla")


def test_xla_has_no_fp16() -> None:
    assert resolve_precision("auto", torch.device("xla")) == "fp32"
    with pytest.raises(DeviceError, match="fp16"):
        resolve_precision("fp16", torch.device("xla"))


@without_xla
def test_other_devices_do_not_need_torch_xla() -> None:
    assert training_device("cpu").type == "cpu"
    compute_now(torch.device("cpu"))
    seed_xla(1)
