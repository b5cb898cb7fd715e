"""What all settings have in common, and the names that some of them had in earlier versions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

_log = logging.getLogger(__name__)

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
ModelName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
"""Name or version of a model: it stands in every record and on terminals, so it has no control characters."""


OLD_NAMES: Mapping[str, str] = {
    "augment.healthy_half": "augment.symmetry_healthy",
    "augment.tumor_half": "augment.symmetry_tumor",
}
"""Former dotted name of a setting -> its name, to read recipes and runs of earlier versions."""


def present_name(dotted: str) -> str:
    """The name of a setting that may be given by a former one, which is logged then."""
    if dotted in OLD_NAMES:
        _log.warning("setting %s is now called %s", dotted, OLD_NAMES[dotted])
    return OLD_NAMES.get(dotted, dotted)


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    group: ClassVar[str] = ""
    """First part of the dotted names of these settings, where some of them had other names."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        renamed: dict[str, Any] = {}
        for key, value in values.items():
            name = present_name(f"{cls.group}.{key}").rpartition(".")[2] if cls.group else key
            if name in renamed:
                raise ValueError(f"{name} is given by its former name as well")
            renamed[name] = value
        return renamed


__all__ = ["OLD_NAMES", "ModelName", "NonNegative", "Probability", "Settings", "present_name"]
