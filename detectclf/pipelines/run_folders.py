"""Run directories of trainings that nobody named, and the settings of a run that is resumed."""

from __future__ import annotations

from pathlib import Path

from detectclf.documents import read_json
from detectclf.errors import ConfigError, DataError, DetectclfError
from detectclf.files import latest_folder
from detectclf.recipes import close_to


def usual_folder(arch: str) -> Path:
    """The run directory of an architecture where none is named; a number is added where it is taken."""
    return Path("runs") / arch.replace(":", "-").replace("/", "-")


def recipe_to_resume(kind: str, out: Path | None, arch: str, *, begins: bool) -> str | None:
    """The recipe that the run to be resumed was started with; ``None`` where there is no run yet.

    Args:
        kind: kind of stage.
        out: the run directory; by default that of the architecture.
        arch: the architecture.
        begins: whether enough is named to begin a run where there is none.

    Raises:
        ConfigError: it is a run of another kind.
        DataError: there is none, and none can begin.
    """
    folder = out or latest_folder(usual_folder(arch))
    found = _kind_of(folder)
    if found not in (None, kind):
        raise ConfigError(f"holds a run of a {found}", file=folder, remedy=f"resume it with `detectclf train-{found}`")
    file = folder / "config.yaml"
    if not file.is_file() and not begins:
        raise _nothing_to_resume(kind, folder)
    return str(file) if file.is_file() else None


def _nothing_to_resume(kind: str, folder: Path) -> DataError:
    beside = folder.parent
    runs = [each.name for each in beside.iterdir() if (each / "config.yaml").is_file()] if beside.is_dir() else []
    remedy = f"correct --out, or name a folder with --data DIR to begin a run of a {kind}"
    return DataError(f"no run to go on with{close_to(folder.name, runs)}", file=folder, remedy=remedy)


def _kind_of(folder: Path) -> str | None:
    """Kind of stage of a run; ``None`` where it has no model yet, or a damaged one, which is said elsewhere."""
    try:
        content = read_json(folder / "model.json")
    except (ValueError, DetectclfError):
        return None
    return str(content["kind"]) if isinstance(content, dict) and "kind" in content else None


__all__ = ["recipe_to_resume", "usual_folder"]
