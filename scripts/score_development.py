"""Judges a model on the development set that ``development_data.py`` writes, by the figure that choices are made by.

``python scripts/score_development.py dev --model BUNDLE`` judges a bundle (without, the packaged one), ``--detector RUN
--classifier RUN`` two runs, and one of the two a stage alone; its figure is the mean of the parts that it has.
Predictions are kept in ``dev/predictions``, so that the same model is judged again at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from development_figures import BR35H, FLAIR, SLICES, STRIPPED, T1, T1C, score, table
from development_predictions import CLASSIFIER, COMBINED, DETECTOR, Model, predictions

from detectclf.config import DataConfig, PredictConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.types import Sample

SETS = {SLICES: SLICES, BR35H: BR35H, FLAIR: "lgg/flair", T1: "lgg/t1", T1C: "lgg/t1c", STRIPPED: STRIPPED}

Folder = Annotated[Path | None, typer.Option(exists=True, file_okay=False)]


def main(
    dev: Annotated[Path, typer.Argument(help="What development_data.py wrote.", exists=True, file_okay=False)],
    model: Folder = None,
    detector: Folder = None,
    classifier: Folder = None,
    stages: Annotated[bool, typer.Option(help="Also each stage alone.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, auto.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
) -> None:
    """Prints the figures."""
    torch.set_num_threads(threads)
    judged = Model(model, detector, classifier)
    sets = {name: slices for name, folder in SETS.items() if (slices := valid_slices(dev / folder))}
    config = PredictConfig(device=device, batch_size=batch_size)
    found, milliseconds = predictions(dev, sets, judged, config=config)
    first = judged.alone or COMBINED
    names = [first, CLASSIFIER, DETECTOR] if stages and first == COMBINED else [first]
    report: dict[str, object] = {"model": judged.title, "cpu_ms_per_slice": milliseconds}
    for name in names:
        pairs = {key: (slices, [views[name] for views in found[key]]) for key, slices in sets.items()}
        scored = score(pairs, boxes=name != CLASSIFIER, flags=name == COMBINED)
        print(table(scored, f"{judged.title}, {name}"), end="\n\n")
        report[name] = asdict(scored)
    print(f"{milliseconds:.1f} ms of processor time per slice, {threads} threads, batches of {batch_size}, {device}")
    if json_ is not None:
        json_.write_text(json.dumps(report, indent=1) + "\n")


def valid_slices(folder: Path) -> tuple[Sample, ...]:
    """The slices of split ``valid``; none where there is no such folder."""
    if not (folder / "valid").is_dir():
        return ()
    return open_dataset(DataConfig(sources=(folder,))).split("valid").samples


if __name__ == "__main__":
    typer.run(main)
