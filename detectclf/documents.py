"""Reads JSON and YAML that may come from strangers: within limits of size and depth, without aliases or objects.

What cannot be read raises the typed error that the caller names, whatever is wrong with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectclf.errors import DataError, DetectclfError, UnsafeError
from detectclf.files import read_bytes

YAML_LIMIT = 128 * 2**10
"""Largest YAML file, bytes; a recipe has 1 KB, and hostile files of this size still parse within 5 s."""
JSON_LIMIT = 64 * 2**20
"""Largest JSON file that detectclf itself wrote, bytes."""
_DEEPEST = 20


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: str | Path, *, limit_bytes: int = JSON_LIMIT) -> Any:
    """The content of a JSON file that detectclf wrote.

    Raises:
        ValueError: not JSON, or nested too deeply.
        DataError: it cannot be read.
        UnsafeError: not a regular file, or larger than ``limit_bytes``.
    """
    return parse_json(read_bytes(path, limit_bytes=limit_bytes))


def read_yaml(
    path: Path, *, error: type[DetectclfError], remedy: str, root: Path | None = None, text_only: bool = False
) -> Any:
    """The content of a YAML file.

    Args:
        path: the file.
        error: type of the error where it cannot be read.
        remedy: what to do about that.
        root: where given, the file must lie inside this folder.
        text_only: every scalar stays text: ``no`` becomes ``"no"``.

    Raises:
        DetectclfError: of type ``error``: missing, not YAML, or nested too deeply.
        UnsafeError: too large, or it has an alias (which can expand into a bomb) or a Python object.
    """
    try:
        content = read_bytes(path, limit_bytes=YAML_LIMIT, root=root)
    except DataError as fault:
        raise error(fault.reason, file=path, remedy=remedy) from fault
    return parse_yaml(content, path, error=error, remedy=remedy, text_only=text_only)


def parse_yaml(
    content: bytes | str, name: str | Path, *, error: type[DetectclfError], remedy: str, text_only: bool = False
) -> Any:
    """The value of a YAML document; ``name`` is what errors call it. Otherwise as :func:`read_yaml`."""
    import yaml

    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            _refuse_unsafe(event, name)
            # Checked while parsing, because the parser's time grows with the square of the depth.
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise error("YAML nested too deeply", file=name, remedy=remedy)
        loader = yaml.BaseLoader(text) if text_only else yaml.SafeLoader(text)
        node = loader.get_single_node()
        _refuse_repeated_keys(node, name, error)
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        raise error("not YAML", file=name, line=None if mark is None else mark.line + 1, remedy=remedy) from None
    # Of dates that do not exist, numbers of thousands of digits, bytes that are no text, keys that are lists.
    except (RecursionError, UnicodeDecodeError, ValueError, TypeError, OverflowError):
        raise error("not YAML", file=name, remedy=remedy) from None


def _refuse_repeated_keys(node: Any, name: str | Path, error: type[DetectclfError]) -> None:
    """Of a key that stands twice, YAML keeps the last value: a split, a class or a setting would be lost silently."""
    pairs = node.value if node is not None and isinstance(node.value, list) else []
    if pairs and isinstance(pairs[0], tuple):
        seen: set[str] = set()
        for key, _ in pairs:
            if not isinstance(key.value, str):
                continue
            if key.value in seen:
                reason = f"has the key {key.value[:80]!r} twice"
                raise error(reason, file=name, line=key.start_mark.line + 1, remedy="keep one of them")
            seen.add(key.value)
        pairs = [value for _, value in pairs]
    for value in pairs:
        _refuse_repeated_keys(value, name, error)


def _refuse_unsafe(event: Any, name: str | Path) -> None:
    line = event.start_mark.line + 1 if event.start_mark else None
    if type(event).__name__ == "AliasEvent":
        raise UnsafeError("YAML alias", file=name, line=line, remedy="write the value out")
    if "python" in (getattr(event, "tag", None) or ""):
        raise UnsafeError("YAML tag of a Python object", file=name, line=line, remedy="remove the tag")


__all__ = ["parse_json", "parse_yaml", "read_json", "read_yaml"]
