"""Targets of fuzzing: what names or holds many pictures for ``predict``, and what it left for a later run."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_target import Target
from PIL import Image

from detectclf.inference.containers import Container
from detectclf.inference.journal import records_in
from detectclf.inference.made_predictions import read_predictions
from detectclf.inference.manifests import rows_of
from detectclf.inference.plans import names_of, read_plan
from detectclf.inference.preprocess import prepare
from detectclf.inference.run_description import check_same_run, describe_run, parse_run, run_text
from detectclf.inference.shards import finished_parts, records_of
from detectclf.storage import StoredFolder

RECORD: dict[str, Any] = {
    "image": "a.png", "class": "glioma", "confidence": 0.9, "probabilities": {"glioma": 0.9, "no_tumor": 0.1},
    "boxes": [{"xyxy": [1.0, 2.0, 9.0, 9.0], "class": "glioma", "score": 0.8}], "flags": ["low_confidence"],
    "width": 64, "height": 48, "model": "m 1", "error": None,
}  # fmt: skip
RUN = describe_run({"name": "m", "version": "1", "sha256": "0"}, {"format": "jsonl"}, {"count": 1}) | {"finished": True}
FILES = {"part-000000.jsonl": {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}}


def _at(name: str, seed: bytes, run: Callable[[Path], object], *, json: bool = False) -> Target:
    """A target whose one file has this name."""

    def write_and_run(folder: Path, content: bytes) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        run(folder)

    return Target(lambda folder: [seed], write_and_run, json=json)


def _tar() -> bytes:
    picture, tape = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(picture, "png")
    with tarfile.open(fileobj=tape, mode="w") as pack:
        for name in ("a.png", "b/c.png"):
            entry = tarfile.TarInfo(name)
            entry.size = len(picture.getvalue())
            pack.addfile(entry, io.BytesIO(picture.getvalue()))
    return tape.getvalue()


def _pictures(folder: Path) -> None:
    for picture in Container(str(folder / "s.tar")):
        prepare(picture, 32, 32)


def _predictions(folder: Path) -> None:
    for name, content in (("run.json", RUN), ("predictions.jsonl", RECORD)):
        if not (folder / name).exists():
            (folder / name).write_text(json.dumps(content) + "\n")
    list(records_in(folder / "predictions.jsonl"))
    read_predictions(str(folder), "0", 0.5)


def _run(folder: Path) -> None:
    check_same_run(parse_run((folder / "run.json").read_bytes(), "run.json"), RUN, "out")


def _plan(folder: Path) -> None:
    stored = StoredFolder(str(folder))
    plan = read_plan(stored)
    if plan is not None and "parts" in plan:
        finished_parts(stored, min(plan["parts"], 3))


def _part(folder: Path) -> None:
    finished_parts(StoredFolder(str(folder)), 1)


def _manifest(folder: Path) -> None:
    (folder / "records").mkdir(exist_ok=True)
    (folder / "records/part-000000.jsonl").touch()
    list(records_of(StoredFolder(str(folder))))


def _names(folder: Path) -> None:
    names_of(StoredFolder(str(folder)), 0)


PREDICTION_TARGETS: dict[str, Target] = {
    "tar": _at("s.tar", _tar(), _pictures),
    "manifest-csv": _at("m.csv", b'path,x\na.png,1\n"b,c.png",2\n', lambda f: list(rows_of(str(f / "m.csv")))),
    "manifest-jsonl": _at("m.jsonl", b'{"path": "a.png"}\n', lambda f: list(rows_of(str(f / "m.jsonl"))), json=True),
    "run": _at("run.json", run_text(RUN).encode(), _run, json=True),
    "made-predictions": _at("predictions.jsonl", json.dumps(RECORD).encode() + b"\n", _predictions, json=True),
    "plan": _at("plan.json", b'{"parts": 2, "items": 3}\n', _plan, json=True),
    "part": _at("records/part-000000.json", json.dumps({"part": 0, "files": FILES}).encode(), _part, json=True),
    "manifest": _at(
        "manifest.json", json.dumps({"parts": [{"part": 0, "files": FILES}]}).encode(), _manifest, json=True
    ),
    "plan-names": _at("plan/part-000000.jsonl", b'"a.png"\n"b.png"\n', _names, json=True),
}
