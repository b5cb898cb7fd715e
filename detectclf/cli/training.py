"""``train-detector``, ``train-classifier``, ``tune``, ``demo``."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from detectclf.cli import options, output


def _flags(
    data: list[str] | None,
    patients: Path | None,
    any_tumor: list[str] | None,
    arch: str | None,
    weights: str | None,
    epochs: int | None,
    device: str | None,
    seed: int | None,
    limit: int | None,
) -> dict[str, Any]:
    return {
        "data.sources": data or None,
        "data.patients": patients,
        "data.any_tumor": any_tumor or None,
        "data.limit": limit,
        "model.arch": arch,
        "model.weights": weights,
        "training.epochs": epochs,
        "training.device": device,
        "training.seed": seed,
    }


def train_detector(
    data: options.RecipeData = None,
    config: options.Config = None,
    arch: Annotated[
        str | None,
        typer.Option(help="Architecture, as `detectclf models` lists it [default: fasterrcnn_mobilenet_v2_fpn]."),
    ] = None,
    weights: options.Weights = None,
    epochs: options.Epochs = None,
    device: options.TrainingDevice = None,
    seed: options.Seed = None,
    limit: options.Limit = None,
    patients: options.Patients = None,
    any_tumor: options.AnyTumor = None,
    out: options.RunOut = None,
    resume: options.Resume = False,
    allow_changed_data: options.ChangedData = False,
    assign: options.Assign = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train the detector, a Faster R-CNN that boxes tumours.

    `--config RUN/config.yaml` alone repeats a run, `--out RUN --resume` continues one.
    `detectclf config show --stage detector` lists every setting.

    Example: detectclf train-detector --data export/ --epochs 12 --out runs/detector
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import DetectorRecipe
    from detectclf.pipelines import train
    from detectclf.pipelines.run_folders import recipe_to_resume
    from detectclf.recipes import load_recipe

    if resume and config is None:
        arch_of_run = arch or DetectorRecipe().model.arch
        config = recipe_to_resume("detector", out, arch_of_run, begins=bool(data or assign))
    recipe = load_recipe(
        DetectorRecipe,
        config,
        assign or (),
        _flags(data, patients, any_tumor, arch, weights, epochs, device, seed, limit),
    )
    summary = train.train_detector(recipe, out, resume=resume, allow_changed_data=allow_changed_data, quiet=quiet)
    _report_run(summary, json, quiet)


def train_classifier(
    data: options.RecipeData = None,
    arch: Annotated[
        str | None, typer.Option(help="Architecture, as `detectclf models` lists it [default: mobilenet_v2].")
    ] = None,
    config: options.Config = None,
    weights: options.Weights = None,
    epochs: options.Epochs = None,
    device: options.TrainingDevice = None,
    seed: options.Seed = None,
    limit: options.Limit = None,
    patients: options.Patients = None,
    any_tumor: options.AnyTumor = None,
    out: options.RunOut = None,
    resume: options.Resume = False,
    allow_changed_data: options.ChangedData = False,
    assign: options.Assign = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train the classifier of whole slices.

    `--config RUN/config.yaml` alone repeats a run, `--out RUN --resume` continues one.
    `detectclf config show --stage classifier` lists every setting.

    Example: detectclf train-classifier --arch resnet50 --data export/ --out runs/resnet50
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import ClassifierRecipe
    from detectclf.pipelines import train
    from detectclf.pipelines.run_folders import recipe_to_resume
    from detectclf.recipes import load_recipe

    if resume and config is None:
        arch_of_run = arch or ClassifierRecipe().model.arch
        config = recipe_to_resume("classifier", out, arch_of_run, begins=bool(data or assign))
    recipe = load_recipe(
        ClassifierRecipe,
        config,
        assign or (),
        _flags(data, patients, any_tumor, arch, weights, epochs, device, seed, limit),
    )
    summary = train.train_classifier(recipe, out, resume=resume, allow_changed_data=allow_changed_data, quiet=quiet)
    _report_run(summary, json, quiet)


def tune(
    stage: Annotated[Literal["detector", "classifier"], typer.Option(help="Stage whose settings are searched.")],
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all: of this call, of earlier ones and of other processes together.")
    ],
    data: options.RecipeData = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="Search space, a YAML file [default: the one in configs/spaces/ of the stage].", metavar="FILE"
        ),
    ] = None,
    sampler: Annotated[
        Literal["gp", "tpe", "random"] | None,
        typer.Option(
            help="How values are chosen: gp by a Gaussian process over the figures so far, tpe from those that did "
            "well, or at random [default: gp, or as the search in --out was begun]."
        ),
    ] = None,
    pruner: Annotated[
        Literal["median", "none"] | None,
        typer.Option(
            help="median ends a trial early that is below the median of the others at the same epoch [default: none "
            "with gp, else median, or as the search in --out was begun]."
        ),
    ] = None,
    config: options.Config = None,
    arch: Annotated[
        str | None, typer.Option(help="Architecture, as `detectclf models` lists it [default: the stage's].")
    ] = None,
    weights: options.Weights = None,
    epochs: options.Epochs = None,
    device: options.Device = None,
    seed: options.Seed = None,
    limit: options.Limit = None,
    patients: options.Patients = None,
    any_tumor: options.AnyTumor = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the search; one that is there goes on [default: a new one, runs/tune-STAGE].",
            metavar="DIR",
        ),
    ] = None,
    assign: options.Assign = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Search settings of a stage with Optuna; writes the best recipe and a page.

    Each trial is a training on most patients of the training split, judged on the others. Start it several times with
    the same --out to use several processes; after an interruption, the same command goes on.

    Example: detectclf tune --stage classifier --data export/ --trials 50 --epochs 8 --out runs/tune
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import ClassifierRecipe, DetectorRecipe
    from detectclf.pipelines.tune import tune as search
    from detectclf.recipes import load_recipe

    flags, given = _flags(data, patients, any_tumor, arch, weights, epochs, device, seed, limit), assign or ()
    recipe = (
        load_recipe(DetectorRecipe, config, given, flags)
        if stage == "detector"
        else load_recipe(ClassifierRecipe, config, given, flags)
    )
    found = search(stage, recipe, out, trials=trials, space=space, sampler=sampler, pruner=pruner, quiet=quiet)
    if json:
        output.print_json(found)
        return
    best = found["best"]
    output.say(f"{found['trials']} trials, {found['pruned']} pruned", quiet)
    if best is not None:
        said = f"best: trial {best['trial']}, {found['metric']} {best['figure']:.4f} on the slices that chose it"
        output.say(said, quiet)
        output.say(f"recipe: {found['recipe']}", quiet)
    output.say(f"page: {found['page']}", quiet)


def _report_run(summary: dict[str, Any], as_json: bool, quiet: bool) -> None:
    # Under torchrun only the main process has a summary.
    if not summary:
        return
    if as_json:
        output.print_json(summary)
        return
    best = ", ".join(f"{k} {v:.4f}" for k, v in summary["best"].items() if isinstance(v, float))
    output.say(f"best epoch {summary['best_epoch']}: {best}", quiet)
    output.say(f"run: {summary['run']}", quiet)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("detectclf-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample data and of the training.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Run everything once on the embedded sample data: train both stages, bundle, evaluate, predict with pictures.

    Example: detectclf demo --out demo/ (a few minutes on two CPU cores; no downloads)
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines.demo import run_demo

    result = run_demo(out, seed=seed, quiet=quiet)
    if json:
        output.print_json(result.to_record())
        return
    output.say(result.table, quiet)
    output.say(f"report:  {result.report}")
    output.say(f"picture: {result.picture}")


def add_commands(app: typer.Typer) -> None:
    """Adds this file's commands to ``app``."""
    app.command("demo")(demo)
    app.command("train-detector")(train_detector)
    app.command("train-classifier")(train_classifier)
    app.command("tune")(tune)
