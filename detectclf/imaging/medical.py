"""What the DICOM and NIfTI readers share: the optional libraries (extra ``medical``) and the limit on unpacked bytes.

Headers contain names, ids and dates of patients. So the readers use only the fields that the pixels need, and no text
of a header or of a library's message gets into an error, a log or a result.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import ModuleType

from detectclf.errors import MissingPackageError, UnsafeError

MAX_UNPACKED_BYTES = 256 * 2**20
"""Most bytes of an unpacked DICOM file or NIfTI volume: 512 x 512 x 512 voxels of 16 bits."""


def import_medical(name: str, file: str | Path) -> ModuleType:
    """Imports a module of pydicom or nibabel and silences its log, which quotes header values.

    Raises:
        MissingPackageError: it is not installed; the message names the extra.
    """
    try:
        module = importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MissingPackageError(package, file=file, remedy='pip install "detectclf[medical]"') from None
    for logger in ("pydicom", "nibabel.global"):
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    return module


def unpacks_too_far(file: str | Path) -> UnsafeError:
    """The error for a file that unpacks to more than ``MAX_UNPACKED_BYTES``."""
    return UnsafeError(
        f"unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB (decompression bomb?)",
        file=file,
        remedy="split it into smaller files if it is genuine",
    )


__all__ = ["MAX_UNPACKED_BYTES", "import_medical", "unpacks_too_far"]
