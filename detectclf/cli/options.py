"""Options that several commands share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print one JSON record per image on stdout and nothing else there.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more on stderr, tracebacks included.")]

Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        "-d",
        help="Folder with an export, or shards such as 'DIR/*.tar' or s3://BUCKET/DIR; repeat it to merge several "
        "sources.",
        metavar="DIR_OR_URI",
    ),
]
RecipeData = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        "-d",
        help="Folder with an export, or shards such as 'DIR/*.tar' or s3://BUCKET/DIR; repeat it to merge several "
        "sources [default: those that --config names].",
        metavar="DIR_OR_URI",
    ),
]
Patients = Annotated[
    Path | None,
    typer.Option(
        "--patients",
        help="Table (CSV) with the columns file and patient, whose slices then stay together; of an id only a keyed "
        "hash is kept [default: what the data says].",
        metavar="FILE",
    ),
]
PatientPattern = Annotated[
    str | None,
    typer.Option(
        "--patient-pattern",
        help="Regular expression whose one group is the patient's id in the name of a file, such as '^(P[0-9]+)_'.",
        metavar="REGEX",
    ),
]
AnyTumor = Annotated[
    list[str] | None,
    typer.Option(
        "--any-tumor",
        help="Name of a class in the data that means a tumour of unknown type; may be repeated.",
        metavar="NAME",
    ),
]
Split = Annotated[str, typer.Option(help="Split to use: train, valid, test or any other split of the data.")]
Config = Annotated[
    str | None,
    typer.Option("--config", "-c", help="Name of a shipped recipe, or path of a YAML file.", metavar="NAME_OR_PATH"),
]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, such as training.lr=0.001; may be repeated.", metavar="KEY=VALUE"),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Starting weights: default (the library's, downloaded once), none, a safetensors or state-dict file, "
        "or a run directory [default: default].",
        metavar="default|none|PATH",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Passes over the training slices [default: the recipe's, else 12]."),
]
Device = Annotated[
    str | None,
    typer.Option(help="Device to compute on [default: auto].", metavar="auto|cpu|cuda|mps"),
]
TrainingDevice = Annotated[
    str | None,
    typer.Option(help="Device to train on; xla is a TPU [default: auto].", metavar="auto|cpu|cuda|mps|xla"),
]
Runtime = Annotated[
    Literal["auto", "openvino", "onnx", "torch"] | None,
    typer.Option(
        help="What computes the networks [default: auto, OpenVINO on the CPU, torch on other devices and for runs]."
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Seed of everything random [default: 0]."),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Use at most this many slices of each split, spread over the classes [default: all]."),
]
RunOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Run directory to write [default: runs/ARCH, or runs/ARCH-2 and so on where that is taken].",
        metavar="DIR",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint of the run directory.")]
ChangedData = Annotated[
    bool,
    typer.Option(
        "--allow-changed-data",
        help="With --resume: continue also with other slices or labels than the run was started with; its data.json "
        "says so.",
    ),
]


def packaged(model: Path | None) -> Path | None:
    """``None``, the packaged bundle, for the word ``default`` where there is no folder of that name."""
    return None if str(model) == "default" and model is not None and not model.exists() else model


Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        help="Bundle to use; default is the packaged one [default: default].",
        metavar="BUNDLE",
        callback=packaged,
    ),
]
DetectorRun = Annotated[
    Path | None,
    typer.Option(
        "--detector", help="Run directory of a detector; with --classifier, instead of a bundle.", metavar="RUN"
    ),
]
ClassifierRun = Annotated[
    Path | None,
    typer.Option(
        "--classifier", help="Run directory of a classifier; with --detector, instead of a bundle.", metavar="RUN"
    ),
]
PredictionsOut = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        help="Folder for records and pictures, without other results; a URI (s3://...) gets shards [default: "
        "predictions, or predictions-2 and so on where that is taken; none with --json alone].",
        metavar="DIR_OR_URI",
    ),
]
PredictionsFormat = Annotated[
    str | None,
    typer.Option(help="Format of the predictions: json, jsonl, csv, coco or yolo [default: jsonl]."),
]
MinScore = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Lowest score of the boxes in pictures, on the terminal, and in csv, coco and yolo; records in JSON have "
        "all [default: that from which boxes count, 0.5 in the packaged model].",
    ),
]
AllCandidates = Annotated[
    bool, typer.Option("--all-candidates", help="Every candidate box, as --min-score 0; pictures show the best 12.")
]
ResumePrediction = Annotated[
    bool,
    typer.Option("--resume", help="Go on where a run of the same model, settings and inputs stopped in --out."),
]
Engine = Annotated[
    Literal["local", "ray"] | None,
    typer.Option(help="What predicts; ray uses Ray Data, on one machine or a cluster [default: local]."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Cluster for --engine ray, such as 10.0.0.1:6379 or auto [default: RAY_ADDRESS, else this machine].",
        metavar="ADDR",
    ),
]
RayCpus = Annotated[
    float | None, typer.Option(help="CPUs of each actor of Ray, which holds the model once [default: 2].")
]
ShardSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Write shards of so many pictures, JSONL and Parquet, as ray and URIs do [default: one file; 1000].",
    ),
]
Predictions = Annotated[
    str | None,
    typer.Option(
        help="Records that `predict` wrote with the same model, its --out, instead of predicting.", metavar="DIR_OR_URI"
    ),
]
