"""``run.json``: by what model and settings the records of a folder were made, so that others are never mixed in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from detectclf.documents import parse_json
from detectclf.errors import ConfigError, DataError
from detectclf.version import __version__

RUN_FILE = "run.json"
_FORMAT = "detectclf-predictions"


def describe_run(model: dict[str, Any], settings: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """The description of a run.

    Args:
        model: ``name``, ``version`` and ``sha256`` of the bundle, and what its records leave out.
        settings: whatever changes records or their layout.
        inputs: what is predicted.
    """
    return {
        "format": _FORMAT,
        "format_version": 1,
        "detectclf": __version__,
        "model": model,
        "settings": settings,
        "inputs": inputs,
        "finished": False,
    }


def inputs_digest(names: Iterable[str]) -> str:
    """SHA-256 of names in their order, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def run_text(description: dict[str, Any]) -> str:
    """The content of the file."""
    return json.dumps(description, indent=1, allow_nan=False) + "\n"


def parse_run(content: bytes | str, file: str) -> dict[str, Any]:
    """The description in the content of ``file``.

    Raises:
        DataError: it is none.
    """
    try:
        description = parse_json(content)
        known = description["format"] == _FORMAT and description["format_version"] == 1
        parts = isinstance(description["model"], dict) and isinstance(description["settings"], dict)
        if known and parts and isinstance(description["finished"], bool):
            return dict(description)
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError("not the description of a prediction", file=file, remedy="choose another --out")


def check_same_run(earlier: dict[str, Any], now: dict[str, Any], out: str) -> None:
    """Checks that records of ``now`` may be added to those of ``earlier``.

    Raises:
        ConfigError: they are of another model, other settings, other inputs or another version.
    """
    before, after = _flat(earlier), _flat(now)
    for key in dict.fromkeys([*before, *after]):
        if not key.startswith(("finished", "result")) and before.get(key) != after.get(key):
            was, is_now = before.get(key), after.get(key)
            short = f"{key} {was}, now {is_now}" if "sha256" not in key else f"{key} differs"
            raise ConfigError(
                f"{out}: its records were made otherwise ({short})",
                remedy="resume with the same model, settings and inputs, or choose another --out",
            )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: each for part in value for key, each in _flat(value[part], f"{name}.{part}".lstrip(".")).items()}


__all__ = ["RUN_FILE", "check_same_run", "describe_run", "inputs_digest", "parse_run", "run_text"]
