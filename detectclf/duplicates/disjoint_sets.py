"""Disjoint sets of numbers that are joined pair by pair, and of names."""

from __future__ import annotations

from collections.abc import Iterable


class DisjointSets:
    """Union-find with path halving over the numbers below ``count``."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def find(self, item: int) -> int:
        """The smallest number of the set that ``item`` is in."""
        while self.parent[item] != item:
            self.parent[item] = self.parent[self.parent[item]]
            item = self.parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        """Makes one set of the two that ``a`` and ``b`` are in."""
        first, second = sorted((self.find(a), self.find(b)))
        self.parent[second] = first

    def sets(self) -> list[list[int]]:
        """Every set, single numbers too; members and sets ascending."""
        found: dict[int, list[int]] = {}
        for item in range(len(self.parent)):
            found.setdefault(self.find(item), []).append(item)
        return list(found.values())


def join_names(parts: Iterable[Iterable[str]]) -> tuple[frozenset[str], ...]:
    """The connected components of two or more names, where all names of a part are connected; in a fixed order."""
    number: dict[str, int] = {}
    lists = [[number.setdefault(name, len(number)) for name in part] for part in parts]
    joined = DisjointSets(len(number))
    for members in lists:
        for member in members[1:]:
            joined.join(members[0], member)
    names = list(number)
    found = [frozenset(names[i] for i in members) for members in joined.sets() if len(members) > 1]
    return tuple(sorted(found, key=sorted))


__all__ = ["DisjointSets", "join_names"]
