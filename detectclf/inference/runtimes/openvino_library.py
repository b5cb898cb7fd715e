"""OpenVINO, imported so that it reports to nobody."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_REPORTS = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The module ``openvino``, without its telemetry.

    Where the package ``openvino_telemetry`` is installed, as NNCF and older versions of OpenVINO need it, each import
    of OpenVINO sends usage data and writes into the user's home. Nothing leaves a machine with patients' slices, so for
    the time of the import it is not there; OpenVINO does without.
    """
    modules: dict[str, Any] = sys.modules  # None means that a module cannot be imported
    hidden = _REPORTS not in modules
    if hidden:
        modules[_REPORTS] = None
    try:
        import openvino
    finally:
        if hidden:
            modules.pop(_REPORTS, None)
    library: ModuleType = openvino
    return library


__all__ = ["import_openvino"]
