"""Reads untrusted YAML: every scalar stays text, and no tag or alias in it is executed or expanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from detectclf.errors import DataError, UnsafeError
from detectclf.files import read_bytes

_LIMIT_BYTES = 4 * 2**20
_LIMIT_DEPTH = 20


def read_yaml(path: Path, root: Path) -> dict[str, Any]:
    """Reads the mapping in a YAML file; its scalars stay text: ``no`` becomes ``"no"``.

    Raises:
        DataError: the file is not YAML, or not a mapping.
        UnsafeError: it is too large, or has an alias (which can expand into a bomb) or a Python object.
    """
    data = read_bytes(path, limit_bytes=_LIMIT_BYTES, root=root)
    try:
        text = data.decode("utf-8-sig")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            _refuse_unsafe(event, path)
            # Checked while parsing, because the parser's time grows with the square of the depth.
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _LIMIT_DEPTH:
                raise DataError("YAML nested too deeply", file=path, remedy="export the data set again")
        loader = yaml.BaseLoader(text)
        node = loader.get_single_node()
        _refuse_repeated_keys(node, path)
        content = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        raise DataError("not YAML", file=path, line=line, remedy="export the data set again") from None
    except (RecursionError, UnicodeDecodeError, ValueError, TypeError):
        raise DataError("not YAML", file=path, remedy="export the data set again") from None
    if not isinstance(content, dict):
        raise DataError("is not a YAML mapping", file=path, remedy="export the data set again")
    return content


def _refuse_repeated_keys(node: yaml.Node | None, path: Path) -> None:
    """Of a key that stands twice, YAML keeps the last value: a split or a class would be lost without a word."""
    pairs = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in pairs:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                reason = f"has the key {key.value[:80]!r} twice"
                raise DataError(reason, file=path, line=key.start_mark.line + 1, remedy="keep one of them")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        pairs = [value for _, value in pairs]
    for value in pairs:
        _refuse_repeated_keys(value, path)


def _refuse_unsafe(event: yaml.Event, path: Path) -> None:
    line = event.start_mark.line + 1 if event.start_mark else None
    if isinstance(event, yaml.AliasEvent):
        raise UnsafeError("YAML alias", file=path, line=line, remedy="write the value out")
    if "python" in (getattr(event, "tag", None) or ""):
        raise UnsafeError("YAML tag of a Python object", file=path, line=line, remedy="remove the tag")


__all__ = ["read_yaml"]
