"""Models from an enemy: each is a one-line error of the right exit code within 5 s and 1 GiB; no code of it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_process import ACCEPTED, Outcome, check_refusal, read_apart
from safetensors.numpy import save as save_arrays

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.errors import ModelError, UnsafeError
from detectclf.inference.fusion import default_fusion
from detectclf.models.bundle import Bundle, load_bundle, save_bundle, sha256
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import build_detector
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import save_stage

CLASSES = ("glioma", "no_tumor")


class Touch:
    """Writes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def _pickle(protocol: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(pickle.dumps({"state_dict": Touch()}, protocol))


def torch_zip(path: Path) -> None:
    torch.save({"a": torch.zeros(2), "b": Touch()}, path)


def torch_legacy(path: Path) -> None:
    """Before torch 1.6: five pickles one after another, of which the fourth is the content."""
    torch.save({"a": torch.zeros(2), "b": Touch()}, path, _use_new_zipfile_serialization=False)


def _tape(path: Path, **members: bytes) -> None:
    with tarfile.open(path, "w") as tape:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tape.addfile(entry, io.BytesIO(content))


def torch_tar(path: Path) -> None:
    """The format of torch 0.1: a tar of pickles."""
    _tape(path, sys_info=pickle.dumps({}), pickle=pickle.dumps(Touch(), 2), storages=b"", tensors=b"")


def npy_objects(path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([Touch()], dtype=object), allow_pickle=True)
    path.write_bytes(stream.getvalue())


def npy_records(path: Path) -> None:
    """The objects in a field of a structured array."""
    stream = io.BytesIO()
    np.save(stream, np.array([(1, Touch())], dtype=[("a", "i4"), ("b", "O")]), allow_pickle=True)
    path.write_bytes(stream.getvalue())


def npz_objects(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.array([Touch()], dtype=object))


def torchscript(path: Path) -> None:
    """A program that torch would compile and run."""
    with zipfile.ZipFile(path, "w") as pack:
        pack.writestr("model/data.pkl", pickle.dumps({}, 2))
        pack.writestr("model/code/__torch__.py", "class Model(Module):\n  pass\n")
        pack.writestr("model/constants.pkl", pickle.dumps((), 2))
        pack.writestr("model/version", "3\n")


def late_code(path: Path) -> None:
    """After 150,000 operations of nothing."""
    path.write_bytes(b"\x80\x02" + b"N0" * 75_000 + pickle.dumps(Touch(), 2)[2:])


def very_late_code(path: Path) -> None:
    """After more operations than anybody looks at."""
    path.write_bytes(b"\x80\x02" + b"N0" * 600_000 + pickle.dumps(Touch(), 2)[2:])


def cut_code(path: Path) -> None:
    """The end is missing, and the code would have run before it is missed."""
    path.write_bytes(pickle.dumps([Touch(), "x" * 100], 2)[:-50])


def second_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({}, 2) + pickle.dumps(Touch(), 0))


def by_instance(path: Path) -> None:
    """The operation INST, of which pickles of protocol 0 may be made."""
    path.write_bytes(b"(S'touch ran'\nios\nsystem\n.")


def disguised(path: Path) -> None:
    """A pickle in the place of the weights of a run."""
    _run_of_nothing(path)
    (path / "model.safetensors").write_bytes(pickle.dumps(Touch(), 2))


def cyclic(path: Path) -> None:
    content: dict[str, Any] = {}
    content["state_dict"] = content
    torch.save(content, path)


def nested(path: Path) -> None:
    """Mappings in mappings, 100,000 deep."""
    path.write_bytes(b"\x80\x02" + b"}X\x05\0\0\0model" * 100_000 + b"}" + b"s" * 100_000 + b".")


def nested_zip(path: Path) -> None:
    torch.save({}, path)
    deep = b"\x80\x02" + b"}X\x05\0\0\0model" * 100_000 + b"}" + b"s" * 100_000 + b"."
    with zipfile.ZipFile(path) as pack:
        entries = {name: pack.read(name) for name in pack.namelist()}
    with zipfile.ZipFile(path, "w") as pack:
        for name, content in entries.items():
            pack.writestr(name, deep if name.endswith("data.pkl") else content)


def zip_bomb(path: Path) -> None:
    """A pickle of 2 GiB in 2 MB: torch unpacks what is compressed."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as pack:
        entries = {name: pack.read(name) for name in pack.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in entries.items():
            if not name.endswith("data.pkl"):
                pack.writestr(name, content)
                continue
            with pack.open(name, "w", force_zip64=True) as part:
                for _ in range(2048):
                    part.write(bytes(2**20))


def bytearray_of_gigabytes(path: Path) -> None:
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x08\x85R.")


def _torch(content: Any) -> Callable[[Path], object]:
    return lambda path: torch.save(content, path)


def _header(entry: dict[str, Any]) -> Callable[[Path], object]:
    """safetensors with a header of its own and no bytes."""

    def make(path: Path) -> None:
        head = json.dumps({"a": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head)

    return make


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _classifier() -> Any:
    torch.manual_seed(0)
    return build_classifier(ClassifierConfig(arch="cnn", weights="none", image_size=32), len(CLASSES))


def _run(path: Path) -> None:
    save_stage(path, new_stage(_classifier(), CLASSES, negative="no_tumor"))


def _run_of_nothing(path: Path) -> None:
    """A genuine description beside weights of 4 bytes."""
    _run(path)
    (path / "model.safetensors").write_bytes(save_arrays({"a": np.zeros(1, dtype=np.float32)}))


def _described(**changes: Any) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        _run_of_nothing(path)
        content = json.loads((path / "model.json").read_text())
        for key, value in changes.items():
            *groups, last = key.split("__")
            part = content
            for group in groups:
                part = part[group]
            part[last] = value
        (path / "model.json").write_text(json.dumps(content))

    return make


def _run_text(text: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        _run_of_nothing(path)
        (path / "model.json").write_text(text)

    return make


DEEP = "[" * 200_000 + "]" * 200_000
RUN_CODE = [
    *(_pickle(protocol) for protocol in range(6)),
    torch_zip,
    torch_legacy,
    torch_tar,
    npy_objects,
    npy_records,
    npz_objects,
    torchscript,
    late_code,
    very_late_code,
    cut_code,
    second_pickle,
    by_instance,
]

# name -> (maker, exit code). Names that end in /run make the folder of a run.
HOSTILE: dict[str, tuple[Callable[[Path], object], int]] = {
    **{f"code{number}.pt": (make, 3) for number, make in enumerate(RUN_CODE)},
    "code.safetensors": (_pickle(2), 3),
    "disguised/run": (disguised, 3),
    "zip_bomb.pt": (zip_bomb, 3),
    "cyclic.pt": (cyclic, 2),
    "nested.pt": (nested, 2),
    "nested_zip.pt": (nested_zip, 2),
    "bytearray.pt": (bytearray_of_gigabytes, 2),
    "text.pt": (_bytes(b"config of\nmy training\n"), 2),  # begins like a pickle of protocol 0 that imports
    "numbers.pt": (_torch({"a": 1.0, "b": [1, 2]}), 2),
    "list.pt": (_torch([torch.zeros(2)]), 2),
    "tensor.pt": (_torch(torch.zeros(2)), 2),
    "sparse.pt": (_torch({"a": torch.eye(2).to_sparse()}), 2),
    "complex.pt": (_torch({"a": torch.zeros(2, dtype=torch.complex64)}), 2),
    "meta.pt": (_torch({"a": torch.zeros(2, device="meta")}), 2),
    "nothing.pt": (_bytes(b""), 2),
    "half_a_zip.pt": (_bytes(b"PK\3\4" + bytes(100)), 2),
    "huge.safetensors": (_header({"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}), 2),
    "overflow.safetensors": (_header({"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 0]}), 2),
    "float8.safetensors": (_header({"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]}), 2),
    "unknown.safetensors": (_header({"dtype": "X7", "shape": [0], "data_offsets": [0, 0]}), 2),
    "header.safetensors": (_bytes(struct.pack("<Q", 2**62) + b"{"), 2),
    "proposals/run": (_described(kind="detector", arch="fasterrcnn_resnet50_fpn", config__proposals_test=10**9), 2),
    "giant/run": (_described(arch="timm:eva_giant_patch14_560", preprocessing__size=560), 2),
    "giant_detector/run": (
        _described(
            kind="detector",
            arch="fasterrcnn_timm:convnext_xxlarge",
            config={"arch": "fasterrcnn_timm:convnext_xxlarge", "head_width": 4096},
            preprocessing__size=320,
        ),
        2,
    ),
    "many_classes/run": (_described(classes=[f"c{n}" for n in range(900_000)]), 2),
    "std/run": (_described(preprocessing__std=[0.0]), 2),
    "not_a_number/run": (_described(preprocessing__mean=[float("nan")]), 2),
    "channels/run": (_described(preprocessing__mean=[0.5, 0.5], preprocessing__std=[0.5, 0.5]), 2),
    "size/run": (_described(preprocessing__size=10**9), 2),
    "kind/run": (_described(kind=["classifier"]), 2),
    "config/run": (_described(config=[1]), 2),
    "deep/run": (_run_text(DEEP), 2),
    "digits/run": (_run_text("9" * 100_000), 2),
    "list/run": (_run_text("[]"), 2),
}

BUNDLES: dict[str, dict[str, Any]] = {
    "temperature of nothing": {"fusion": {"temperature": 0}},
    "negative temperature": {"fusion": {"temperature": -1}},
    "temperature that is no number": {"fusion": {"temperature": float("nan")}},
    "temperature of a text": {"fusion": {"temperature": "hot"}},
    "unusual temperature of nothing": {"fusion": {"unusual_temperature": 0}},
    "endless bias": {"fusion": {"bias": [float("inf"), 0]}},
    "bias of too few classes": {"fusion": {"bias": [0]}},
    "threshold beyond 1": {"fusion": {"box_threshold": 7}},
    "prior beyond 1": {"fusion": {"tumor_prior": 2}},
    "proposals": {"detector": {"config": {"proposals_test": 10**9}}},
    "boxes": {"detector": {"config": {"max_boxes": 10**9}}},
    "anchors": {"detector": {"config": {"anchor_sizes": [[1.0] * 10_000] * 3}}},
    "endless anchors": {"detector": {"config": {"anchor_sizes": [[float("inf")]] * 3}}},
    "flat anchors": {"detector": {"config": {"aspect_ratios": [0.0]}}},
    "classes": {"classes": [f"c{n}" for n in range(900_000)]},
    "sums": {"sha256": []},
    "name": {"name": {}},
    "name of megabytes": {"name": "n" * 5_000_000},
    "name that turns the terminal red": {"name": "a\x1b[31m"},
    "name of two lines": {"name": "a\nb"},
    "version without a letter": {"version": ""},
    "negative class that is none": {"negative": "healthy"},
}

READ = """
import torch, torchvision, timm, safetensors.torch
from detectclf.config import ClassifierConfig
from detectclf.models.bundle import load_bundle
from detectclf.models.classifiers import build_classifier
from detectclf.models.stage_files import load_stage, read_meta

def read(path):
    os.chdir(path.parent)
    if (path / "bundle.json").exists():
        for stage in load_bundle(path).stages.values():
            stage.network
    elif path.name == "run":
        load_stage(path, read_meta(path / "model.json").kind)
    else:
        build_classifier(ClassifierConfig(arch="cnn", weights=str(path), image_size=32), 2)
"""


def _changed(content: Any, changes: Any) -> Any:
    if not isinstance(changes, dict) or not changes or not isinstance(content, dict):
        return changes
    return {**content, **{key: _changed(content.get(key), value) for key, value in changes.items()}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine bundle of small networks."""
    torch.manual_seed(0)
    detector = build_detector(DetectorConfig(weights="none", image_size=64, pyramid_channels=16, head_width=16), 1)
    stages = {
        "detector": new_stage(detector, CLASSES[:1], negative=None),
        "classifier": new_stage(_classifier(), CLASSES, negative="no_tumor"),
    }
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(folder, Bundle("b", "1", CLASSES, "no_tumor", stages, default_fusion(CLASSES)))
    return folder


@pytest.fixture(scope="module")
def outcomes(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """How reading each file of the tables ended, and a genuine run and bundle."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = {name: folder / name for name in HOSTILE}
    for name, (make, _) in HOSTILE.items():
        paths[name].parent.mkdir(exist_ok=True)
        make(paths[name])
    description = json.loads((bundle / "bundle.json").read_text())
    for name, changes in BUNDLES.items():
        paths[name] = folder / "bundles" / name
        paths[name].mkdir(parents=True)
        for weights in ("detector.safetensors", "classifier.safetensors"):
            (paths[name] / weights).symlink_to(bundle / weights)
        (paths[name] / "bundle.json").write_text(json.dumps(_changed(description, changes)))
    paths |= {"genuine run": folder / "genuine/run", "genuine bundle": bundle}
    _run(paths["genuine run"])
    found = dict(zip(paths, read_apart(READ, list(paths.values())), strict=True))
    assert not list(folder.rglob("ran")), "no code was run"
    return found


@pytest.mark.parametrize("name", [*HOSTILE, *BUNDLES])
def test_hostile_models_are_refused(name: str, outcomes: dict[str, Outcome]) -> None:
    check_refusal(outcomes[name], HOSTILE.get(name, (None, 2))[1], Path(name).parts[0])


def test_a_huge_file_of_a_bundle_is_not_read_into_memory(bundle: Path, tmp_path: Path) -> None:
    """8 GB of nothing take no room on the disk."""
    shutil.copytree(bundle, tmp_path / "b")
    os.truncate(tmp_path / "b/detector.safetensors", 2**33)
    with pytest.raises(UnsafeError, match="larger than the limit"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", ["genuine run", "genuine bundle"])
def test_genuine_models_are_read_in_these_limits(name: str, outcomes: dict[str, Outcome]) -> None:
    assert outcomes[name].code == ACCEPTED, outcomes[name].words


@pytest.mark.parametrize("content", [b"", b"{", pickle.dumps({}), save_arrays({"mean": np.zeros(3)})])
def test_hostile_arrays_of_a_bundle_are_refused(bundle: Path, tmp_path: Path, content: bytes) -> None:
    genuine = json.loads((bundle / "bundle.json").read_text())
    for name in ("detector.safetensors", "classifier.safetensors"):
        (tmp_path / name).symlink_to(bundle / name)
    (tmp_path / "novelty.safetensors").write_bytes(content)
    genuine["sha256"]["novelty.safetensors"] = sha256(tmp_path / "novelty.safetensors")
    (tmp_path / "bundle.json").write_text(json.dumps(genuine))
    with pytest.raises(ModelError, match="novelty"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("build", [build_classifier, build_detector])
def test_more_classes_than_a_model_may_have_are_refused_before_training(build: Callable[..., Any]) -> None:
    config = ClassifierConfig() if build is build_classifier else DetectorConfig()
    with pytest.raises(ModelError, match="at most 1000 classes, not 1001"):
        build(config, 1001)
