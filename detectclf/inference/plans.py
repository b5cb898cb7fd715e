"""The plan of a prediction in shards: the names that each part goes over, listed once.

===========================  ==========================================================================
``plan/part-000000.jsonl``   the names of one part, a JSON string a line
``plan.json``                how many parts and names; written last, so that half a plan is none
===========================  ==========================================================================

Workers open these names, so that signatures of URLs stand in them until the run is finished. A run that goes on takes
those that it is given again, since the first ones may be good no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from detectclf.documents import parse_json
from detectclf.errors import DataError
from detectclf.inference.containers import is_container
from detectclf.storage import StoredFolder
from detectclf.uris import is_uri, shown, without_secrets

PLAN_FILE = "plan.json"


def part_name(number: int) -> str:
    """What the files of a part are called."""
    return f"part-{number:06d}"


def write_plan(folder: StoredFolder, names: Iterable[str], size: int) -> dict[str, int]:
    """Cuts ``names`` into parts and writes them as they come; gives the numbers of ``parts`` and ``items``, and
    of ``signed`` names, where there are any.

    Args:
        folder: the output.
        names: of files and containers; a container is a part of its own.
        size: names of a part.

    Raises:
        DataError: there are no names.
    """
    parts = items = signed = 0
    waiting: list[str] = []

    def write(part: Sequence[str]) -> None:
        nonlocal parts, items, signed
        _write_names(folder, parts, part)
        parts, items = parts + 1, items + len(part)
        signed += sum(_kept(name) != name for name in part)

    for name in names:
        if is_container(name):
            write([name])
            continue
        waiting.append(name)
        if len(waiting) == size:
            write(waiting)
            waiting = []
    if waiting:
        write(waiting)
    if not parts:
        raise DataError("no input", remedy="name image files, folders, globs or manifests")
    plan = {"parts": parts, "items": items} | ({"signed": signed} if signed else {})
    folder.write(PLAN_FILE, json.dumps(plan) + "\n")
    return plan


def read_plan(folder: StoredFolder) -> dict[str, int] | None:
    """What :func:`write_plan` gave; ``None`` where it did not come to its end."""
    if not folder.exists(PLAN_FILE):
        return None
    try:
        return {key: int(value) for key, value in parse_json(folder.read(PLAN_FILE)).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(folder, PLAN_FILE) from error


def names_of(folder: StoredFolder, number: int) -> list[str]:
    """The names of a part."""
    file = _names_file(number)
    try:
        return [parse_json(line) for line in folder.read(file).splitlines()]
    except ValueError as error:
        raise _damaged(folder, file) from error


def forget_signatures(folder: StoredFolder, plan: Mapping[str, int]) -> None:
    """Removes what may be a key from the names of a finished run, which needs them no more.

    Args:
        folder: the output.
        plan: as :func:`read_plan` gives it.
    """
    if not plan.get("signed"):
        return
    for number in range(plan["parts"]):
        _write_names(folder, number, [_kept(name) for name in names_of(folder, number)])
    folder.write(PLAN_FILE, json.dumps({key: value for key, value in plan.items() if key != "signed"}) + "\n")


def renew_signatures(
    folder: StoredFolder, plan: Mapping[str, int], names: Iterable[str], parts: Iterable[int]
) -> dict[str, int]:
    """Gives the signed names of ``parts`` the signatures of ``names``; returns the plan, which says so.

    Names that nothing but what may be a key tells apart stay as they are, since nobody knows which is which.

    Args:
        folder: the output.
        plan: as :func:`read_plan` gives it.
        names: of the inputs, listed again.
        parts: numbers of those that are not finished.
    """
    fresh: dict[str, str | None] = {}
    for name in names:
        kept = _kept(name)
        if kept != name:
            fresh[kept] = name if fresh.get(kept, name) == name else None
    if not fresh:
        return dict(plan)
    signed = dict(plan) | {"signed": plan.get("signed") or len(fresh)}
    folder.write(PLAN_FILE, json.dumps(signed) + "\n")  # first, so that they are removed in the end
    for number in parts:
        before = names_of(folder, number)
        now = [fresh.get(_kept(name)) or name for name in before]
        if now != before:
            _write_names(folder, number, now)
    return signed


def _kept(name: str) -> str:
    """A name without what may be a key."""
    return without_secrets(name) if is_uri(name) else name


def _names_file(number: int) -> str:
    return f"plan/{part_name(number)}.jsonl"


def _write_names(folder: StoredFolder, number: int, names: Sequence[str]) -> None:
    folder.write(_names_file(number), "".join(json.dumps(name) + "\n" for name in names))


def _damaged(folder: StoredFolder, file: str) -> DataError:
    return DataError("is damaged", file=shown(folder.path(file)), remedy="choose another --out, and predict again")


__all__ = ["PLAN_FILE", "forget_signatures", "names_of", "part_name", "read_plan", "renew_signatures", "write_plan"]
