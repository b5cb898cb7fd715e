"""What DICOM and NIfTI reading share: the optional libraries (the extra ``medical``) and the limit on unpacking.

Headers hold names, ids and dates of patients. So only what the pixels need is read from them, and no word of a
header or of the libraries' own messages gets into an error, a log or a result.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import ModuleType

from detectclf.errors import DataError, UnsafeError

MAX_UNPACKED_BYTES = 256 * 2**20
"""Most bytes that a deflated DICOM file or a NIfTI volume may come to: 512 x 512 x 512 voxels of 16 bits."""


def import_medical(name: str, file: str | Path) -> ModuleType:
    """Module ``name`` of pydicom or nibabel, with its log silenced: both quote header values there.

    Raises:
        DataError: not installed; the line names the extra.
    """
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise needs_extra(name.partition(".")[0], file) from None
    for logger in ("pydicom", "nibabel.global"):
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    return module


def needs_extra(what: str, file: str | Path) -> DataError:
    """The error of a file that needs ``what``, which the extra brings."""
    return DataError(f"needs {what} to be read", file=file, remedy='pip install "detectclf[medical]"')


def unpacks_too_far(file: str | Path) -> UnsafeError:
    """The error of a file whose content is beyond ``MAX_UNPACKED_BYTES``."""
    return UnsafeError(
        f"unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB (decompression bomb?)",
        file=file,
        remedy="cut it into smaller files if it is genuine",
    )


__all__ = ["MAX_UNPACKED_BYTES", "import_medical", "needs_extra", "unpacks_too_far"]
