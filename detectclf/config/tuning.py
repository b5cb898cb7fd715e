"""Search spaces: which values ``tune`` may give a setting."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, FiniteFloat, Strict, StrictBool, StrictInt, model_validator

from detectclf.config.base import Settings

# In YAML true and "1" are no numbers, and no value lies between a number and infinity.
Number = StrictInt | Annotated[FiniteFloat, Strict()]


class Dimension(Settings):
    """The values of one setting: a range of numbers, or a list of choices."""

    low: Number | None = None
    """Smallest value; a whole number here and in high makes the setting a whole number."""
    high: Number | None = None
    """Largest value."""
    log: StrictBool = False
    """Spread the trials evenly over orders of magnitude."""
    step: Annotated[Number, Field(gt=0)] | None = None
    """Distance of neighbouring values, from low on; by default 1 for whole numbers, none for others. High is a
    whole number of steps above low."""
    choices: Annotated[tuple[bool | int | FiniteFloat | str | None, ...], Field(min_length=2)] | None = None
    """All values, in no order."""

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("has choices and a range; keep one of them")
            if len(set(self.choices)) < len(self.choices):  # Optuna takes 8 and 8.0, 1 and true for the same as well
                raise ValueError("the same choice is there twice")
            return self
        if self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("needs low and a larger high, or choices")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        if not self._on_a_step(self.high):
            raise ValueError("step must divide the distance from low to high")
        return self

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step or 1))

    @property
    def samples(self) -> tuple[Any, ...]:
        """All choices, or both ends of the range and a value between them: a setting may want whole numbers."""
        if self.choices is not None or self.low is None or self.high is None:
            return self.choices or ()
        step = self.step or (1 if self.whole else (self.high - self.low) / 3)
        return self.low, self.high, self.low + step

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is one of the values."""
        if self.choices is not None:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        return self.low <= value <= self.high and self._on_a_step(value) and not (self.whole and value % 1)

    def _on_a_step(self, value: float) -> bool:
        steps = 0.0 if self.step is None or self.low is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-9


__all__ = ["Dimension"]
