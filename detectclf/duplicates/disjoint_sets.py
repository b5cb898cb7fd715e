"""Disjoint sets of numbers that are joined pair by pair."""

from __future__ import annotations


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


__all__ = ["DisjointSets"]
