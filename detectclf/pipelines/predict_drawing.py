"""The pictures that ``predict --visualize`` draws: which files they are, and that each result names its own."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from detectclf.errors import DetectclfError
from detectclf.files import atomic_write
from detectclf.inference.containers import Container
from detectclf.inference.items import Item
from detectclf.inference.picture_names import PICTURE_SUFFIX, picture_names
from detectclf.inference.sources import ImageSource, name_of
from detectclf.inference.studies import Study
from detectclf.inference.volumes import Volume
from detectclf.prediction import Prediction
from detectclf.storage import shown

log = logging.getLogger(__name__)

Result = TypeVar("Result", Prediction, Study)


@dataclass(slots=True, eq=False)
class Drawing:
    """Which pictures are drawn, and how many could not be; ``part`` is what ``--frame`` and ``--axis`` say."""

    out: Path
    visualize: bool
    explain: bool
    part: str
    failed: int = 0

    def names(self, sources: Sequence[Item]) -> Iterator[Path]:
        """A file for the picture of each source."""
        named = [
            source.stem
            if isinstance(source, Volume)
            else shown(source.name)
            if isinstance(source, Container)
            else name_of(source)
            for source in sources
        ]
        return (self.out / name for name in picture_names(named, self.part))

    def pictures(self, source: ImageSource | Container, file: Path) -> Iterator[tuple[ImageSource, Path, bool]]:
        """The pictures in ``source``, the file that each is drawn into, and whether it is the first."""
        if not isinstance(source, Container):
            yield source, file, True
            return
        stem = file.name.removesuffix(PICTURE_SUFFIX)
        for number, picture in enumerate(source, start=source.skip):
            yield picture, file.with_name(f"{stem}-{number:06d}{PICTURE_SUFFIX}"), number == source.skip

    def saved(self, result: Result, file: Path) -> Result:
        """``result``, drawn into ``file``, which it then names; where that fails, the log says so."""
        if not self.visualize or result.error is not None:
            return result
        buffer = io.BytesIO()
        try:
            result.draw().save(buffer, format="PNG")
            atomic_write(file, buffer.getvalue())
        except DetectclfError as error:
            log.error("%s", error)
            self.failed += 1
            return result
        return replace(result, picture=file.name)


__all__ = ["Drawing"]
