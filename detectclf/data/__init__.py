"""Data sets: reading every export format, finding what is wrong, splitting, loading."""

from __future__ import annotations

from detectclf.data.dataset import open_dataset, require_split

__all__ = ["open_dataset", "require_split"]
