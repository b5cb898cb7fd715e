"""What is said of architectures, weights and devices before torch is loaded."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from detectclf.errors import DeviceError, ModelError
from detectclf.models import names
from detectclf.models.classifiers import CLASSIFIERS
from detectclf.models.detectors import DETECTORS
from detectclf.models.names import ARCHITECTURES, check_arch, check_device, check_weights


def test_the_names_are_those_of_the_tables() -> None:
    assert {"detector": tuple(DETECTORS), "classifier": tuple(CLASSIFIERS)} == ARCHITECTURES


@pytest.mark.parametrize(
    ("kind", "arch", "said"),
    [
        ("classifier", "mobilnet_v2", "did you mean mobilenet_v2"),
        ("detector", "fasterrcnn-mobilenet-v2-fpn", "did you mean fasterrcnn_mobilenet_v2_fpn"),  # as papers write
        ("detector", "resnet50", "no detector 'resnet50', which is a classifier"),
        ("detector", "timm:resnet50", "which is a classifier"),
        ("classifier", "yolo", "no classifier 'yolo'; use one of mlp"),  # like none of ours: no guess
        ("classifier", "", "no classifier ''"),
        ("classifier", "timm:resnet5", "timm has no network 'resnet5', did you mean resnet50?"),
        ("classifier", "timm:ConvNeXt-Tiny", "did you mean convnext_tiny?"),
        ("detector", "fasterrcnn_timm:tf_efficientnet_lit0.in1k", "timm has no network 'tf_efficientnet_lit0.in1k'"),
        ("classifier", "timm:", "timm has no network ''"),
        ("classifier", "timm:hf-hub:timm/resnet50", "timm has no network"),  # nothing is fetched from a hub
    ],
)
def test_an_arch_that_is_not_there_is_told_with_what_was_meant(kind: str, arch: str, said: str) -> None:
    with pytest.raises(ModelError) as error:
        check_arch(kind, arch)
    assert said in str(error.value)


def test_names_that_are_there_pass(tmp_path: Path) -> None:
    for kind, arch in (
        ("classifier", "mlp"),
        ("classifier", "timm:resnet50"),
        ("detector", "fasterrcnn_timm:resnet50.a1_in1k"),
    ):
        check_arch(kind, arch)
    (tmp_path / "model.safetensors").touch()
    for weights in ("default", "none", str(tmp_path), str(tmp_path / "model.safetensors")):
        check_weights(weights)
    for device in ("auto", "cpu"):
        check_device(device)


def test_timm_names_in_its_source_are_those_it_has() -> None:
    import timm
    from timm.models._registry import _model_entrypoints  # old names too

    for name in {*timm.list_models(), *_model_entrypoints}:
        check_arch("classifier", f"timm:{name}")


@pytest.mark.parametrize("there", [None, "text"])
def test_without_the_source_of_timm_nothing_is_said_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str | None
) -> None:
    spec = None if there is None else ModuleSpec("timm", None, is_package=True)  # as in an archive, without files
    monkeypatch.setattr(names, "find_spec", lambda name: spec)
    names._timm_names.cache_clear()
    check_arch("classifier", "timm:resnet5")
    names._timm_names.cache_clear()


@pytest.mark.parametrize(
    "weights, said",
    [
        ("", "is empty"),  # a variable that is not set; not the working directory
        ("x" * 300, "File name too long"),
        ("defaul", "did you mean default?"),
    ],
)
def test_weights_that_cannot_be_there_are_told(weights: str, said: str) -> None:
    with pytest.raises(ModelError) as error:
        check_weights(weights)
    assert said in str(error.value)


@pytest.mark.parametrize("there", [True, False])
def test_without_a_driver_there_is_no_cuda_but_with_an_amd_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    def no_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(names, "CDLL", no_library)
    monkeypatch.setattr(names, "AMD_DEVICES", (str(tmp_path if there else tmp_path / "none"),))
    monkeypatch.delitem(sys.modules, "torch")
    if there:
        check_device("cuda:1")
        return
    with pytest.raises(DeviceError, match="'cuda:1': there is no CUDA GPU; use --device auto or cpu"):
        check_device("cuda:1")
