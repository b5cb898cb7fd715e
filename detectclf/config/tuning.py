"""Search spaces: which values ``tune`` may give a setting."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from detectclf.config.base import Settings

Number = int | float


class Dimension(Settings):
    """The values of one setting: a range of numbers, or a list of choices."""

    low: Number | None = None
    """Smallest value; a whole number here and in high makes the setting a whole number."""
    high: Number | None = None
    """Largest value."""
    log: bool = False
    """Spread the trials evenly over orders of magnitude."""
    step: Annotated[Number, Field(gt=0)] | None = None
    """Distance of neighbouring values, from low on; by default 1 for whole numbers, none for others."""
    choices: Annotated[tuple[bool | int | float | str | None, ...], Field(min_length=2)] | None = None
    """All values, in no order."""

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("has choices and a range; keep one of them")
            if len({(type(c), c) for c in self.choices}) < len(self.choices):
                raise ValueError("the same choice is there twice")
            return self
        if self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("needs low and a larger high, or choices")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        return self

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step or 1))

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values between which all others lie, or all choices."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is one of the values."""
        if self.choices is not None:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9 and not (self.whole and value % 1)


__all__ = ["Dimension"]
