"""``data sample``: the drawn slices that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def sample(out: Path, *, n: int = 240, seed: int = 0) -> dict[str, Any]:
    """Writes the embedded sample data."""
    from detectclf.sample_data.export import write_sample_data

    write_sample_data(out, n=n, seed=seed)
    return {"wrote": str(out), "detail": f"{n} drawn slices, COCO, splits train, valid, test"}
