"""How well a model's activation maps fit tumours: what its bundle records, as the caption of each map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURED = "activation_map"
"""Key in a bundle's metadata: ``peak_inside_box``, ``mass_inside_box`` and ``slices``, which ``evaluate --explain``
measures and ``scripts/record_maps.py`` records."""

NOT_MEASURED = "How well such maps fit tumours was not measured for this model."


def measured_fit(metadata: Mapping[str, Any]) -> str:
    """The caption of a model's maps, by the metadata of its bundle."""
    measured = metadata.get(MEASURED)
    if not isinstance(measured, Mapping):
        return NOT_MEASURED
    peak, mass, slices = (measured.get(key) for key in ("peak_inside_box", "mass_inside_box", "slices"))
    if peak is None or mass is None or not (_is_share(peak) and _is_share(mass) and isinstance(slices, int)):
        return NOT_MEASURED
    return (
        f"Measured on {slices} tumour slices of new patients: peak inside the true box on {100 * peak:.0f} %, "
        f"and {100 * mass:.0f} % of the map's mass."
    )


def _is_share(value: Any) -> bool:
    return isinstance(value, float | int) and 0 <= value <= 1


__all__ = ["MEASURED", "NOT_MEASURED", "measured_fit"]
