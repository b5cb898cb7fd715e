"""``export``: a bundle as a folder of graphs that runs without detectclf, on request in int8."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from detectclf.config import ExportRecipe
from detectclf.errors import ConfigError, ModelError
from detectclf.files import atomic_folder, atomic_write
from detectclf.leftovers import scratch_folder

if TYPE_CHECKING:
    from detectclf.models.bundle import Bundle

Format = Literal["onnx", "openvino"]


def export(
    model: Path | None, to: Format, recipe: ExportRecipe, split: str, out: Path, *, int8: bool
) -> dict[str, Any]:
    """Writes the graphs of a bundle, with ``model.json``, into a folder; as ONNX the folder is a bundle as well.

    Args:
        model: the bundle; without it, the packaged one.
        to: what the graphs are for: ``onnx`` files, which OpenVINO reads too, or OpenVINO's own.
        recipe: the data of ``int8``, none without it.
        split: of the data.
        out: the folder to write.
        int8: quantise the graphs: find the ranges on half of the slices, and measure the loss on the other half.

    Returns:
        ``export``: the folder, and ``int8``: what was measured.

    Raises:
        ConfigError: ``int8`` without data, or data without it.
        ModelError: no bundle, damaged, a network that cannot be exported, or in int8 already.
        DataError: the data cannot be used, or ``out`` is not empty.
    """
    from detectclf.inference.loading import default_bundle
    from detectclf.models.bundle import describe_bundle, graph_file, load_bundle
    from detectclf.pipelines.int8 import quantised_bundle

    if int8 and not recipe.data.sources:
        raise ConfigError(
            "--int8 needs slices, to find the ranges of the activations and measure the loss", remedy="add --data DIR"
        )
    if not int8 and recipe.data != ExportRecipe().data:
        raise ConfigError("data is used with --int8 only", remedy="add --int8, or leave --data and its settings out")
    source = default_bundle() if model is None else model
    bundle = load_bundle(source)
    measured: dict[str, Any] | None = None
    with atomic_folder(out) as folder, scratch_folder() as scratch:
        made = folder if to == "onnx" and not int8 else scratch
        bundle = _copied(source, bundle, made)
        files = sorted(file.name for file in made.iterdir())
        if int8:
            bundle, measured = quantised_bundle(bundle, recipe, split, folder)
            files = [graph_file(kind) for kind in bundle.graphs]
        further = {"runtime": to, "precision": "int8" if int8 else "float32", "int8": measured}
        if to == "openvino":
            _as_openvino(bundle, folder)
        else:
            describe_bundle(folder, bundle, files)
        _describe(bundle, folder, {key: value for key, value in further.items() if value is not None})
    return {"export": str(out), "to": to, "int8": measured}


def _copied(source: Path, bundle: Bundle, folder: Path) -> Bundle:
    """The bundle with weights and graphs in ``folder``; graphs that it lacks are made."""
    from detectclf.models.bundle import graph_file, weights_file
    from detectclf.models.graphs.export import graph_bytes

    graphs = {}
    for kind, stage in bundle.stages.items():
        weights, graph = folder / weights_file(kind), folder / graph_file(kind)
        if not (source / weights.name).is_file():
            raise ModelError("is in int8 already", file=source, remedy="export the bundle that it was made from")
        shutil.copyfile(source / weights.name, weights)
        if bundle.graphs:
            shutil.copyfile(bundle.graphs[kind], graph)
        else:
            atomic_write(graph, graph_bytes(stage, weights))
        graphs[kind] = graph
    # Of the training slices, an export carries nothing.
    return replace(bundle, graphs=graphs, out_of_fold=None)


def _as_openvino(bundle: Bundle, folder: Path) -> None:
    """Writes the graphs in OpenVINO's own format, in the place of those in ``folder``, with the statistics."""
    from detectclf.inference.runtimes.openvino_library import import_openvino
    from detectclf.models.bundle_arrays import array_files

    openvino = import_openvino()

    for kind, graph in bundle.graphs.items():
        try:
            read = openvino.Core().read_model(graph)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ModelError(
                f"the graph cannot be opened: {reason}", file=graph, remedy="bundle the runs again"
            ) from error
        openvino.save_model(read, folder / f"{kind}.xml", compress_to_fp16=False)
        (folder / graph.name).unlink(missing_ok=True)
    for name, content in array_files(bundle.ood, None).items():
        atomic_write(folder / name, content)


def _describe(bundle: Bundle, folder: Path, further: dict[str, Any]) -> None:
    """Writes ``model.json``."""
    from detectclf.models.bundle import BUNDLE_FILE, sha256
    from detectclf.models.description import DESCRIPTION_FILE, description

    files = {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.name != BUNDLE_FILE}
    graphs = {kind: next(name for name in (f"{kind}.xml", f"{kind}.onnx") if name in files) for kind in bundle.stages}
    content = description(bundle, files, graphs, **further)
    atomic_write(folder / DESCRIPTION_FILE, json.dumps(content, indent=2, allow_nan=False) + "\n")


__all__ = ["export"]
