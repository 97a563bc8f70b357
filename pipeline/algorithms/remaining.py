"""Indices of which some are removed, and the k-th of the rest in logarithmic time."""

from __future__ import annotations


class RemainingIndices:
    """The indices 0, ..., size - 1 less those removed, in ascending order.

    Counts are kept in a binary indexed tree (Fenwick, "A new data structure for cumulative frequency
    tables", Software: Practice and Experience 24(3), 1994): `remove` and `[]` take O(log size).

    Args:
        size: Number of indices at the start, at least 1.
    """

    def __init__(self, size: int) -> None:
        # node n counts the remaining ones of the n & -n indices that end with index n - 1
        self._counts = [node & -node for node in range(size + 1)]
        self._root = 1 << (size.bit_length() - 1)

    def remove(self, index: int) -> None:
        """Removes an index that is still there."""
        node = index + 1
        while node < len(self._counts):
            self._counts[node] -= 1
            node += node & -node

    def __getitem__(self, k: int) -> int:
        """The k-th remaining index, from k = 0; there must be more than k."""
        node, step = 0, self._root
        while step:
            if node + step < len(self._counts) and self._counts[node + step] <= k:
                node += step
                k -= self._counts[node]
            step >>= 1
        return node
