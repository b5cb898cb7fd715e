"""What a search leaves: the best recipe, a line for each trial, and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from detectclf.drawing.search import SearchPoint
from detectclf.files import atomic_write
from detectclf.pipelines.tune_study import FOLDER, NOTE, SharedStudy
from detectclf.recipes import changed
from detectclf.version import installed_version

if TYPE_CHECKING:
    from detectclf.pipelines.tune_search import Search

BEST, TRIALS, PAGE = "best.yaml", "trials.jsonl", "report.html"


def publish(search: Search, study: SharedStudy, data: Mapping[str, Any], *, page: bool) -> dict[str, Any]:
    """Writes the files, for the trials that are finished; returns what ``tune`` does.

    Args:
        search: what is searched.
        study: its trials; this process has its lock.
        data: counts of the slices trained and held out on.
        page: write the page as well, which takes seconds.

    Raises:
        DataError: a file cannot be written.
    """
    records = [_record(trial) for trial in study.finished()]
    whole = [r for r in records if r["figure"] is not None]
    best = max(whole, key=lambda r: r["figure"], default=None)  # of equal ones the first
    atomic_write(search.folder / TRIALS, "".join(json.dumps(r, allow_nan=False) + "\n" for r in records))
    if best is not None:
        recipe = changed(search.wanted, best["settings"]).model_dump(mode="json")
        head = (
            f"# Best of {len(records)} trials of `detectclf tune --stage {search.kind}`: trial {best['trial']}, "
            f"{search.metric} {best['figure']:.4f}\n# on held-out slices of the training data, which chose these "
            "settings: evaluate on patients that were never used.\n"
        )
        atomic_write(search.folder / BEST, head + yaml.safe_dump(recipe, sort_keys=False))
    if page:
        atomic_write(search.folder / PAGE, _page(search, study, records, best, data))
    return {
        "out": str(search.folder),
        "metric": search.metric,
        "trials": len(records),
        "pruned": len(records) - len(whole),
        "best": None if best is None else {key: best[key] for key in ("trial", "figure", "settings")},
        "recipe": None if best is None else str(search.folder / BEST),
        "page": str(search.folder / PAGE),
    }


def _record(trial: Any) -> dict[str, Any]:
    """One line of ``trials.jsonl``."""
    from optuna.trial import TrialState

    return {
        "trial": trial.user_attrs.get(FOLDER, trial.number),
        # Optuna gives a pruned trial the figure of its last epoch.
        "figure": trial.value if trial.state == TrialState.COMPLETE else None,
        "epochs": {str(epoch): figure for epoch, figure in sorted(trial.intermediate_values.items())},
        "settings": trial.params,
        "note": trial.user_attrs.get(NOTE),
        "seconds": trial.duration.total_seconds() if trial.duration is not None else None,
    }


def _page(
    search: Search,
    study: SharedStudy,
    records: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    data: Mapping[str, Any],
) -> str:
    from detectclf.evaluation.record import RESEARCH_USE
    from detectclf.evaluation.rendering import environment

    points = [
        SearchPoint(r["trial"], r["figure"], {int(e): v for e, v in r["epochs"].items()}, r["settings"])
        for r in records
    ]  # fmt: skip
    of_recipe = {name: _setting(search.wanted, name) for name in search.space}
    rows = [
        {
            "name": name,
            "best": "" if best is None else _shown(best["settings"][name]),
            "recipe": _shown(of_recipe[name]),
            "searched": _searched(dimension),
        }
        for name, dimension in search.space.items()
    ]
    start = next((r["figure"] for r in records if r["settings"] == of_recipe), None)
    plots, wide = _plots(search, study, points, best)
    return environment().get_template("tune.html.j2").render(
        stage=search.kind,
        metric=search.metric,
        finished=len(records),
        total=search.total,
        pruned=sum(r["figure"] is None for r in records),
        data=data,
        splits=search.recipe.data.fold_splits,
        use=RESEARCH_USE,
        best=None if best is None else {"figure": best["figure"], "number": best["trial"]},
        start=start,
        settings=rows,
        plots=plots,
        wide_plot=wide,
        trials=[_row(search, r) for r in sorted(records, key=lambda r: -1 if r["figure"] is None else -r["figure"])],
        facts=list(_facts(search, data).items()),
    )  # fmt: skip


def _plots(
    search: Search, study: SharedStudy, points: Sequence[SearchPoint], best: Mapping[str, Any] | None
) -> tuple[list[tuple[str, str]], str]:
    from detectclf.drawing import search as drawing
    from detectclf.drawing.plots import as_svg

    if best is None:
        return [], ""
    figures = {
        "Trials in their order": drawing.history_figure(points, search.metric),
        "Trials by epoch": drawing.curves_of_trials(points, search.metric, best["trial"]),
    }
    if importance := _importance(study, points):
        figures["Importance of settings (PED-ANOVA)"] = drawing.importance_figure(importance)
    logarithmic = {name: dimension.log for name, dimension in search.space.items()}
    panels = drawing.settings_figure(points, logarithmic, search.metric, best["trial"])
    return [(title, as_svg(figure)) for title, figure in figures.items()], as_svg(panels)


def _importance(study: SharedStudy, points: Sequence[SearchPoint]) -> dict[str, float]:
    """Empty with too few trials, or where all figures are equal, for which there is no importance."""
    figures = [p.figure for p in points if p.figure is not None]
    if len(figures) < 5 or min(figures) == max(figures):
        return {}
    from optuna.importance import get_param_importances

    return dict(get_param_importances(study.study))


def _row(search: Search, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": record["trial"],
        "figure": record["figure"],
        "epochs": len(record["epochs"]),
        "shown": [_shown(record["settings"].get(name)) for name in search.space],
        "note": record["note"],
    }


def _facts(search: Search, data: Mapping[str, Any]) -> dict[str, Any]:
    recipe = search.recipe
    return {
        "architecture": recipe.model.arch,
        "epochs": recipe.training.epochs,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": recipe.training.seed,
        "slices trained on": f"{data['train']['samples']} (known patients: {data['train']['patients']})",
        "slices held out": f"{data['valid']['samples']} (known patients: {data['valid']['patients']})",
        "held out": f"fold {', '.join(map(str, recipe.data.held_out))} of {recipe.data.folds} folds of the split "
        f"{', '.join(recipe.data.fold_splits)}; slices of a patient and copies of a slice are in one fold",
        "optuna": installed_version("optuna"),
        "detectclf": installed_version("detectclf"),
    }


def _setting(recipe: Any, name: str) -> Any:
    for part in name.split("."):
        recipe = getattr(recipe, part)
    return recipe


def _searched(dimension: Any) -> str:
    if dimension.choices is not None:
        return ", ".join(map(str, dimension.choices))
    return f"{dimension.low} to {dimension.high}" + (", logarithmic" if dimension.log else "")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
