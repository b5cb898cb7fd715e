"""``predict``."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

from typing import Annotated, Any, Literal

import typer

from detectclf.cli import options, output


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (recursive), globs, manifests (Parquet, CSV, JSONL), TFRecord, tar and zip "
            "files, URIs of any of them, or - for paths on stdin."
        ),
    ],
    model: options.Model = None,
    detector: options.DetectorRun = None,
    classifier: options.ClassifierRun = None,
    visualize: Annotated[
        bool, typer.Option("--visualize", help="Write a picture <stem>.pred.png for each image and volume.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Add a class-activation map to the pictures.")] = False,
    frame: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Picture of a multi-frame or multi-page file, or slice of a volume, counted from 0 [default for "
            "volumes: all of them].",
        ),
    ] = None,
    axis: Annotated[
        Literal["axial", "coronal", "sagittal"] | None,
        typer.Option(help="Axis along which NIfTI volumes are sliced [default: axial]."),
    ] = None,
    out: options.PredictionsOut = None,
    format: options.PredictionsFormat = None,
    min_score: options.MinScore = None,
    all_candidates: options.AllCandidates = False,
    runtime: options.Runtime = None,
    device: options.Device = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Slices per forward pass [default: 8].")] = None,
    resume: options.ResumePrediction = False,
    engine: options.Engine = None,
    ray_address: options.RayAddress = None,
    ray_cpus: options.RayCpus = None,
    shard_size: options.ShardSize = None,
    json: options.JsonLines = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Classify slices and box their tumours; sum up the slices of each volume (NIfTI file or DICOM series).

    Example: detectclf predict scans/ --visualize (pictures, records, and index.html, a gallery)

    In shards: detectclf predict s3://bucket/slices/ --engine ray --out s3://bucket/predictions --resume
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import PredictConfig
    from detectclf.pipelines import predict as pipeline
    from detectclf.pipelines import predict_text
    from detectclf.recipes import load_recipe

    def show(result: Any) -> None:
        if json:
            output.print_json(result.to_record())
        elif result.error is None:  # else the log says it
            output.say(predict_text.describe(result), quiet)

    config = load_recipe(PredictConfig, None, (), {"runtime": runtime, "device": device, "batch_size": batch_size})
    shards = pipeline.shard_settings(out, engine, shard_size, ray_address, ray_cpus)
    needed = not json or visualize or format is not None or resume or shards is not None
    done = pipeline.predict(
        inputs,
        config,
        model=model,
        detector=detector,
        classifier=classifier,
        out=pipeline.predictions_folder(out, resume=resume) if out is not None or needed else None,
        format=format or "jsonl",
        min_score=pipeline.lowest_score(min_score, all_candidates),
        visualize=visualize,
        explain=explain,
        frame=frame,
        axis=axis,
        resume=resume,
        shards=shards,
        each=show,
        earlier=output.print_json if json else None,
        keep_unread=out is not None,
    )
    if json and shards is not None:
        output.print_json({"manifest": str(done.file), "done": done.done, "failed": done.failed})
    if not json:
        output.say(predict_text.where(done, visualize=visualize, format=format or "jsonl"), quiet)
    if done.exit_code:
        raise typer.Exit(done.exit_code)


def add_commands(app: typer.Typer) -> None:
    """Adds this file's command to ``app``."""
    app.command("predict")(predict)
