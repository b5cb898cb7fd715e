"""What a model is known again by: its bundle's description, which has the SHA-256 of every file, or its runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.errors import ModelError

if TYPE_CHECKING:
    from detectclf.inference.predictor import Predictor


def model_description(predictor: Predictor, model: Path | None, runs: Sequence[Path | None]) -> dict[str, Any]:
    """What ``run.json`` says of a model.

    Args:
        predictor: of the model.
        model: its bundle; the packaged one where neither it nor runs are named.
        runs: run directories of an unbundled model.
    """
    return {
        "name": predictor.bundle.name,
        "version": predictor.bundle.version,
        "sha256": model_digest(model, [run for run in runs if run is not None]),
        "runtime": predictor.runtime.name,
        "device": predictor.device.partition(":")[0],
    }


def model_digest(model: Path | None, runs: Sequence[Path]) -> str:
    """SHA-256 of what the model is, in hexadecimal digits; arguments as of :func:`model_description`.

    Raises:
        ModelError: a file is gone.
    """
    from detectclf.inference.loading import default_bundle
    from detectclf.models.bundle import BUNDLE_FILE
    from detectclf.models.stage_files import META_FILE, MODEL_FILE

    files = [run / name for run in runs for name in (META_FILE, MODEL_FILE)]
    if not files:
        files = [(default_bundle() if model is None else model) / BUNDLE_FILE]
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise ModelError(f"cannot be read ({error.strerror})", file=file, remedy="check the model") from error
    return digest.hexdigest()


__all__ = ["model_description", "model_digest"]
