"""What is fuzzed: every reader of exports, decoder of images and file of a model.

A target takes the bytes of one file, puts them where such a file lies, and reads it. Only typed errors may come out.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from export_examples import dataset
from fuzz_prediction_targets import PREDICTION_TARGETS
from fuzz_target import Target
from PIL import Image
from volume_examples import write_dicom

from detectclf.errors import DetectclfError
from detectclf.formats import read, write
from detectclf.formats.faults import Faults
from detectclf.imaging.images import decode_image, examine_image, image_size

# Exports

FILES = {
    "coco": "train/_annotations.coco.json",
    "yolo": "train/labels/a.txt",
    "yolo-names": "data.yaml",
    "voc": "train/a.xml",
    "csv": "train/_annotations.csv",
    "tfrecord": "train/Tumors.tfrecord",
    "createml": "train/_annotations.createml.json",
    "classes-csv": "train/_classes.csv",
    "webdataset": "train/slices-00000-of-00001.tar",
}


def _export(name: str) -> Target:
    format = name.removesuffix("-names")

    def seeds(folder: Path) -> list[bytes]:
        slices = [
            ("train", "a.png", [("glioma", (2.5, 3, 20, 30)), ("pituitary", (9, 9, 12, 12))]),
            ("train", "b.png", []),
        ]
        source = dataset(folder / "source", slices)
        write(source, folder / "export", format, drop_boxes=True)
        return [_file(folder).read_bytes()]

    def _file(folder: Path) -> Path:
        named = folder / "export" / FILES[name]
        return named if named.exists() else next((folder / "export").rglob(f"*{named.suffix}"))

    def run(folder: Path, content: bytes) -> None:
        _file(folder).write_bytes(content)
        read(folder / "export", Faults(folder / "export"), format)

    return Target(seeds, run, json=FILES[name].endswith(".json"))


# Images


def _picture(format: str, mode: str = "L", **options: Any) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        stream = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 4)).astype(np.uint8)
        Image.fromarray(pixels).convert("RGB").convert(mode).save(stream, format, **options)
        return [stream.getvalue()]

    return Target(seeds, _read_picture)


def _read_picture(folder: Path, content: bytes) -> None:
    (folder / "a.img").write_bytes(content)
    examined = examine_image(folder / "a.img")
    with contextlib.suppress(DetectclfError):
        image_size(folder / "a.img")
    pixels = decode_image(content, "a.img")
    assert pixels.dtype == np.uint8 and pixels.ndim == 2 and examined.pixels is not None


def _dicom(syntax: str | None = None, **tags: Any) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        import pydicom

        file = write_dicom(folder / "seed.dcm", 3, **tags)
        if syntax == "RLELossless":
            data = pydicom.dcmread(file)
            data.compress(pydicom.uid.RLELossless)
            data.save_as(file)
        elif syntax is not None:
            data = pydicom.dcmread(file)
            data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
            data.save_as(file)
        return [file.read_bytes()]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.imaging.dicom_headers import read_slice_headers
        from detectclf.imaging.dicom_series import find_series

        (folder / "a.dcm").write_bytes(content)
        find_series(read_slice_headers(folder / "a.dcm"))
        _read_picture(folder, content)

    return Target(seeds, run)


def _nifti(packed: bool) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        import nibabel

        voxels = np.random.default_rng(0).integers(0, 900, (6, 5, 4)).astype(np.int16)
        content = nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])).to_bytes()
        import gzip

        return [gzip.compress(content, mtime=0) if packed else content]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.imaging.nifti import nifti_grid, unpack_nifti

        with contextlib.suppress(DetectclfError):
            nifti_grid(content, "a.nii", "coronal")
        with contextlib.suppress(DetectclfError):
            unpack_nifti(content, "a.nii").slice(None, "sagittal")
        decode_image(content, "a.nii")

    return Target(seeds, run)


def _archive() -> Target:
    def seeds(folder: Path) -> list[bytes]:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr("train/a.txt", "text " * 20)
            pack.writestr("train/", "")
        return [stream.getvalue()]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.formats.archive import members, unpack

        (folder / "a.zip").write_bytes(content)
        out = Path(tempfile.mkdtemp(dir=folder))
        try:
            with contextlib.suppress(DetectclfError, OSError):
                unpack(folder / "a.zip", out)
        finally:
            shutil.rmtree(out)
        for member in members(content, "a.zip"):
            with contextlib.suppress(DetectclfError):
                member.head()
                member.read()

    return Target(seeds, run)


# Files of models, runs and evaluations


@functools.cache
def _stages() -> Any:
    import torch

    from detectclf.config import ClassifierConfig, DetectorConfig
    from detectclf.models.classifiers import build_classifier
    from detectclf.models.detectors import build_detector
    from detectclf.models.stage import new_stage

    torch.manual_seed(0)
    small = {"weights": "none", "image_size": 64, "pyramid_channels": 16, "head_width": 16}
    detector = build_detector(DetectorConfig.model_validate(small), 1)
    classifier = build_classifier(ClassifierConfig(arch="cnn", weights="none", image_size=32), 2)
    return {
        "detector": new_stage(detector, ("glioma",), negative=None),
        "classifier": new_stage(classifier, ("glioma", "no_tumor"), negative="no_tumor"),
    }


def _description() -> Target:
    def seeds(folder: Path) -> list[bytes]:
        from detectclf.models.stage_files import save_stage

        save_stage(folder, _stages()["classifier"])
        return [(folder / "model.json").read_bytes()]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.models.stage_files import load_stage

        (folder / "model.json").write_bytes(content)
        load_stage(folder, "classifier")

    return Target(seeds, run, json=True)


def _bundle() -> Target:
    def seeds(folder: Path) -> list[bytes]:
        from detectclf.inference.fusion import default_fusion
        from detectclf.models.bundle import Bundle, save_bundle

        classes = ("glioma", "no_tumor")
        save_bundle(folder, Bundle("b", "1", classes, "no_tumor", _stages(), default_fusion(classes)))
        return [(folder / "bundle.json").read_bytes()]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.models.bundle import load_bundle
        from detectclf.pipelines.provenance import model_provenance

        (folder / "bundle.json").write_bytes(content)
        load_bundle(folder)
        model_provenance(folder)

    return Target(seeds, run, json=True)


def _weights(suffix: str) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        import torch
        from safetensors.torch import save

        state = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.zeros(2)}
        if suffix == "safetensors":
            return [save(state)]
        contents = []
        for zipped in (True, False):
            stream = io.BytesIO()
            torch.save({"state_dict": state, "epoch": 3}, stream, _use_new_zipfile_serialization=zipped)
            contents.append(stream.getvalue())
        return contents

    def run(folder: Path, content: bytes) -> None:
        from detectclf.models.weight_files import read_shapes, read_state

        file = folder / f"w.{suffix}"
        file.write_bytes(content)
        if suffix == "safetensors":
            with contextlib.suppress(DetectclfError):
                read_shapes(file)
        for tensor in read_state(file).values():
            tensor.sum()

    return Target(seeds, run)


def _arrays(name: str) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        from detectclf.models.bundle_arrays import OODStatistics, OutOfFoldPredictions, array_files

        ood = OODStatistics(np.zeros(3, np.float32), np.eye(3, dtype=np.float32), 2.0, 1.0)
        shapes = ((2, 16), (2, 2), (2, 5))
        out_of_fold = OutOfFoldPredictions(
            np.zeros(shapes[0], np.uint8), np.zeros(shapes[1], np.float32), np.zeros(shapes[2], np.float32)
        )
        return [array_files(ood, out_of_fold)[name]]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.models.bundle_arrays import OOD_FILE, load_ood, load_out_of_fold

        (folder / name).write_bytes(content)
        load_ood(folder / name) if name == OOD_FILE else load_out_of_fold(folder / name, 2)

    return Target(seeds, run)


def _fingerprints() -> Target:
    def seeds(folder: Path) -> list[bytes]:
        from detectclf.duplicates.fingerprints import ROW, Fingerprints

        rows = np.zeros(2, dtype=ROW)
        prints = Fingerprints(rows, ("a", "b"), ("train", "train"), ("s", "s"), ("figshare-1", None), (7,))
        prints.save(folder / "seed")
        return [(folder / "seed").read_bytes()]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.duplicates.fingerprints import Fingerprints

        (folder / "a").write_bytes(content)
        Fingerprints.load(folder / "a")

    return Target(seeds, run)


def _settings() -> Target:
    def seeds(folder: Path) -> list[bytes]:
        import yaml

        from detectclf.config import ClassifierRecipe

        whole = yaml.safe_dump(ClassifierRecipe().model_dump(mode="json"), sort_keys=False)
        return [whole.encode(), b"model: {arch: cnn}\ntraining:\n  epochs: 3\n", b"data: {class_map: {A: glioma}}\n"]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.config import ClassifierRecipe
        from detectclf.recipes import load_recipe
        from detectclf.training.runs import Run

        (folder / "config.yaml").write_bytes(content)
        with contextlib.suppress(DetectclfError):
            Run(folder, writes=False).settings()
        load_recipe(ClassifierRecipe, str(folder / "config.yaml"))

    return Target(seeds, run)


PREDICTION: dict[str, Any] = {
    "image": "a.png", "class": "glioma", "confidence": 0.9, "probabilities": {"glioma": 0.9, "no_tumor": 0.1},
    "boxes": [{"xyxy": [1.0, 2.0, 9.0, 9.0], "class": "glioma", "score": 0.8}], "flags": [], "width": 64, "height": 48,
    "model": "m 1", "error": None,
}  # fmt: skip
SLICE: dict[str, Any] = {
    "image": "a.png", "line": 1, "source": "s", "group": 0, "patient": 0, "seen": False, "new_patient": None,
    "truth": {"class": "glioma", "boxed": True, "boxes": [[1.0, 2.0, 9.0, 9.0]], "box_classes": ["glioma"]},
    "negative": "no_tumor", "box_threshold": 0.5,
}  # fmt: skip
EVALUATION: dict[str, Any] = {
    "report.json": {
        "combined": {"accuracy": 0.9, "mAP": 0.5}, "intervals": {"combined.accuracy": [0.8, 1.0]},
        "speed": {"images_per_second": 3.0, "device": "cpu"}, "leaks": {"samples": 0},
        "facts": {"model": {"parameters": 5}},
    },
    "slices.jsonl": SLICE,
    "predictions.jsonl": PREDICTION,
    "metrics.jsonl": {"epoch": 1, "metrics": {"mAP": 0.3, "accuracy": None}},
}  # fmt: skip


def _evaluation(name: str) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        for file, content in EVALUATION.items():
            if name != "metrics.jsonl" or file == name:
                (folder / file).write_text(json.dumps(content) + "\n")
        return [(folder / name).read_bytes()]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.evaluation.entries import load_entry

        (folder / name).write_bytes(content)
        load_entry(folder).table(by_content=False)

    return Target(seeds, run, json=True)


def _patients() -> Target:
    def run(folder: Path, content: bytes) -> None:
        from detectclf.datasets.patients_file import read_patients

        (folder / "p.csv").write_bytes(content)
        read_patients(folder / "p.csv")

    return Target(lambda folder: [b"file,patient\na.png,P1\ntrain/b.png,P2\n", b'patient;file\n"A, B";c.png\n'], run)


def _graph(engine: Any) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        from detectclf.models.graphs.export import graph_bytes
        from detectclf.models.stage_files import save_stage

        save_stage(folder, _stages()["classifier"])
        (folder / "model.safetensors").rename(folder / "classifier.safetensors")
        return [graph_bytes(_stages()["classifier"], folder / "classifier.safetensors")]

    def run(folder: Path, content: bytes) -> None:
        from detectclf.inference.runtimes.engines import ENGINES

        (folder / "classifier.onnx").write_bytes(content)
        ENGINES[engine](folder / "classifier.onnx", "cpu", ["logits"])(np.zeros((1, 1, 32, 32), np.uint8))

    return Target(seeds, run)


TARGETS: dict[str, Target] = {
    **{f"export-{name}": _export(name) for name in FILES},
    "jpeg": _picture("jpeg"),
    "png": _picture("png"),
    "png-palette": _picture("png", "P"),
    "bmp": _picture("bmp", "RGB"),
    "tiff": _picture("tiff"),
    "tiff-lzw": _picture("tiff", compression="tiff_lzw"),
    "tiff-float": _picture("tiff", "F", compression="tiff_deflate"),
    "gif": _picture("gif", "P"),
    "webp": _picture("webp", "RGB"),
    "pnm": _picture("ppm"),
    "jpeg-2000": _picture("jpeg2000"),
    "dicom": _dicom(WindowCenter=100, WindowWidth=50, RescaleSlope=2, RescaleIntercept=-1),
    "dicom-deflated": _dicom("DeflatedExplicitVRLittleEndian"),
    "dicom-rle": _dicom("RLELossless"),
    "nifti": _nifti(packed=False),
    "nifti-gz": _nifti(packed=True),
    "zip": _archive(),
    "model-json": _description(),
    "bundle-json": _bundle(),
    "weights-safetensors": _weights("safetensors"),
    "weights-torch": _weights("pt"),
    "novelty": _arrays("novelty.safetensors"),
    "out-of-fold": _arrays("out_of_fold.safetensors"),
    "fingerprints": _fingerprints(),
    "settings": _settings(),
    "report": _evaluation("report.json"),
    "slices": _evaluation("slices.jsonl"),
    "predictions": _evaluation("predictions.jsonl"),
    "metrics": _evaluation("metrics.jsonl"),
    "patients": _patients(),
    **PREDICTION_TARGETS,
}

NATIVE: dict[str, Target] = {"graph-openvino": _graph("openvino"), "graph-onnx": _graph("onnx")}
"""Targets whose libraries may end the process: not for the tests."""
