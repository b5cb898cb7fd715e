"""Settings of data: which slices are used, and how they are loaded."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from detectclf.config.base import Probability, Settings
from detectclf.types import ANY_TUMOR
from detectclf.uris import is_uri, without_secrets

_log = logging.getLogger(__name__)


class DataConfig(Settings):
    """Which slices are used and how they are loaded."""

    sources: tuple[str, ...] = ()
    """Folders with exports, or shards (TFRecord, tar): a pattern of files, or a file, folder or pattern of a store such
    as s3://bucket/shards. Splits of the same name are merged."""
    train_split: str = "train"
    """Split to train on."""
    valid_split: str = "valid"
    """Split for validation metrics, from which the best epoch is chosen."""
    negative_boxes: Literal["drop", "keep"] = "drop"
    """Boxes of the negative class (drawn round the whole head): drop them, or keep them as a class of boxes."""
    class_map: dict[str, str] = Field(default_factory=dict)
    """Other spellings of classes: name in the data -> class name."""
    any_tumor: tuple[str, ...] = ()
    """Names of classes in the data that mean a tumour of unknown type (``any_tumor`` always does). Such slices and
    boxes train that there is a tumour, not which; they count in figures of localisation, not in those of classes."""
    faults: Literal["stop", "fix"] = "stop"
    """Errors in the annotations: stop at the first one, or fix what can be fixed and report it."""
    patients: Path | None = None
    """Table (CSV) with the columns file and patient. Of an id only a keyed hash is kept."""
    patient_pattern: str | None = None
    """Regular expression that finds the patient's id in the name of a file, without its folders, as its one group, such
    as ^(P[0-9]+)_."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many slices of each split, spread over the classes."""
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Cross-validation: split all slices into this many folds, whatever their published split; slices of one patient
    and copies stay together."""
    held_out: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Folds to validate on; the others are trained on. If empty, train on all folds and validate on fold 0."""
    fold_splits: tuple[str, ...] = ()
    """Published splits whose slices are split into folds, the others being left out; if empty, all of them."""
    fold_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the folds."""
    copies: Literal["keep", "one"] = "keep"
    """Train on every copy of a slice, or (with folds only) on one of them."""
    balance: Probability = 0.0
    """How much an epoch makes up for classes of few slices: 0 takes each slice once, 1 all classes equally often."""
    lesion_masks: Path | None = None
    """Folder of tumour masks, NUMBER.png for each slice of figshare 1512427; slices find theirs by content."""
    head_maps: Path | None = None
    """Folder of label maps of whole heads (NIfTI, labels of SynthSeg), to draw slices from."""
    cache: Literal["auto", "memory", "none"] = "auto"
    """Keep decoded, resized slices in memory; auto: only if they fit into a quarter of the free memory."""
    shuffle_buffer: Annotated[int, Field(ge=0)] | None = None
    """Slices that are put in random order together, where the data lie in shards: whole shards in random order, as many
    at a time as hold this many. 0: all slices of the epoch; null: 10000 for shards of a store, else 0."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Loader processes; by default one per core up to 8, but none for slices in memory on a CPU (or not on Linux)."""

    @field_validator("sources", mode="before")
    @classmethod
    def _read_paths(cls, value: Any) -> Any:
        # Not a Path: it would make one slash of the two in s3://bucket.
        return (
            [str(each) if isinstance(each, Path) else each for each in value]
            if isinstance(value, list | tuple)
            else value
        )

    @field_serializer("sources", when_used="json")
    def _write_no_secrets(self, value: tuple[str, ...]) -> list[str]:
        """As files keep them; who goes on with a run from such a file gives them again."""
        return [without_secrets(each) if is_uri(each) else each for each in value]

    @field_validator("faults", mode="before")
    @classmethod
    def _read_old_value(cls, value: Any) -> Any:
        if value == "mend":
            _log.warning("data.faults: mend is now called fix")
        return "fix" if value == "mend" else value

    @field_validator("patient_pattern")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        try:
            groups = 1 if value is None else re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"has {groups} groups instead of one, the patient's id; write (?:...) for others")
        return value

    @model_validator(mode="after")
    def _one_meaning(self) -> DataConfig:
        if both := sorted(set(self.any_tumor) & set(self.class_map)):
            raise ValueError(f"{both[0]!r} is in class_map and in any_tumor")
        return self

    @property
    def spellings(self) -> dict[str, str]:
        """Name in the data -> class, of ``class_map`` and ``any_tumor`` together."""
        return self.class_map | dict.fromkeys(self.any_tumor, ANY_TUMOR)

    @model_validator(mode="after")
    def _folds_or_none(self) -> DataConfig:
        if self.folds is None and (self.held_out or self.fold_splits or self.copies == "one"):
            raise ValueError("held_out, fold_splits and copies=one need folds")
        return self


__all__ = ["DataConfig"]
