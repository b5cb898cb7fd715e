"""``models``: the list of architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def list_models() -> list[dict[str, Any]]:
    """The rows of both tables: stage, arch, input size, parameters, weights."""
    from detectclf.models.listing import describe_models

    return describe_models()


def models_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as plain text."""
    lines = [f"{'stage':11} {'arch':40} {'input':>6} {'parameters':>11}  weights"]
    for row in rows:
        parameters = f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else "-"
        size, weights = row["input_size"] or "-", row["weights"] or "-"
        lines.append(f"{row['stage']:11} {row['arch']:40} {size:>6} {parameters:>11}  {weights}")
    return "\n".join(lines)
