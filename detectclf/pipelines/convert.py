"""``data convert``: an export in another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def convert(
    folder: Path,
    out: Path,
    *,
    to: str,
    from_: str | None = None,
    drop_boxes: bool = False,
    any_tumor: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes ``folder`` to ``out`` in format ``to``; what the target cannot hold is refused."""
    from detectclf.formats.convert import convert as write_converted

    dataset = write_converted(folder, out, to, from_, drop_boxes=drop_boxes, any_tumor=any_tumor)
    return {"wrote": str(out), "detail": f"{len(dataset.samples)} slices as {to}", "samples": len(dataset.samples)}
