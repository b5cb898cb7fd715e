"""``models``: the list of architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def list_models() -> list[dict[str, Any]]:
    """The rows of both tables: stage, arch, input size, parameters, weights."""
    from detectclf.models.listing import describe_models

    return describe_models()


def packaged_model() -> str:
    """Name and version of the bundle that comes with this installation, and the package's own version."""
    from detectclf.inference.loading import default_bundle
    from detectclf.models.bundle import BUNDLE_FILE
    from detectclf.models.stage_files import read_json
    from detectclf.version import __version__

    file = default_bundle() / BUNDLE_FILE
    if not file.is_file():
        return f"detectclf {__version__}; no model comes with this installation"
    content = read_json(file, missing="not a bundle", remedy="install detectclf again")
    return f"detectclf {__version__}; packaged model, used without --model: {content['name']} {content['version']}"


def models_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as plain text."""
    lines = [f"{'stage':11} {'arch':40} {'input':>6} {'parameters':>11}  weights"]
    for row in rows:
        parameters = f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else "-"
        size, weights = row["input_size"] or "-", row["weights"] or "-"
        lines.append(f"{row['stage']:11} {row['arch']:40} {size:>6} {parameters:>11}  {weights}")
    return "\n".join(lines)
