"""Settings of augmentation."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from detectclf.config.base import Probability, Settings


class AugmentConfig(Settings):
    """Augmentation of training slices. There are no up-down flips, because heads are never upside down in practice."""

    group: ClassVar[str] = "augment"

    enabled: bool = True
    """Whether training slices are augmented at all."""
    flip: Probability = 0.5
    """Probability of a left-right flip."""
    affine: Probability = 0.8
    """Probability of a small rotation, zoom and shift."""
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 12.0
    """Largest rotation to either side, degrees."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest zoom in or out, as a share of the size."""
    shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.06
    """Largest shift, as a share of the size."""
    intensity: Probability = 0.8
    """Probability of a change of brightness, contrast and gamma."""
    strength: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Largest relative change of brightness, contrast and gamma."""
    noise: Probability = 0.2
    """Probability of Gaussian noise, which is close to the Rician noise of MRI."""
    blur: Probability = 0.1
    """Probability of a slight blur."""
    bias_field: Probability = 0.2
    """Probability of a bias field: a smooth change of intensity over the slice, as in MRI."""
    ghosting: Probability = 0.05
    """Probability of ghosting along one axis, as from motion in MRI."""
    tone: Probability = 0.0
    """Probability of a random tone curve, possibly inverted, as if from another sequence or scanner."""
    symmetry_healthy: Probability = 0.0
    """Probability that a slice whose tumours all lie on one side becomes its healthy half, mirrored into a whole."""
    symmetry_tumor: Probability = 0.0
    """Probability that such a slice becomes its half with the tumours, mirrored into a whole, so that not only healthy
    slices are symmetric."""
    paint: Probability = 0.0
    """Probability that a lesion is painted into a slice without a tumour, which then shows a tumour of unknown type.
    Its shape is that of a mask (data.lesion_masks), else random."""
    recontrast: Probability = 0.0
    """Probability that grey levels are mapped at random, those of a lesion apart from those around it, so that contrast
    is no evidence. The lesion is a mask (data.lesion_masks), else the ellipse in its box."""
    strip: Probability = 0.0
    """Probability that skull and scalp are made black, where the brain can be found."""
    drawn: Probability = 0.0
    """Probability that a slice is replaced by one of its class that is drawn from data.head_maps."""
    min_visibility: Annotated[float, Field(gt=0, le=1)] = 0.3
    """A box is dropped if less than this share of its area is left in the picture."""

    @property
    def symmetry(self) -> bool:
        """Whether symmetry augmentation is on."""
        return self.enabled and self.symmetry_healthy + self.symmetry_tumor > 0

    @model_validator(mode="after")
    def _one_half_at_most(self) -> AugmentConfig:
        if self.symmetry_healthy + self.symmetry_tumor > 1:
            raise ValueError("symmetry_healthy and symmetry_tumor add up to more than 1")
        return self


__all__ = ["AugmentConfig"]
