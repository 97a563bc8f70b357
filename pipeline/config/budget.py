"""Settings of what a run may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from snn.options import Range, check_settings

ANY_NODE = "node"
"""The node type whose price holds for all nodes without a price of their own."""


@dataclass(frozen=True)
class BudgetConfig:
    """What a run may cost; not part of its identity. At the limit a command stops and keeps what it has."""

    max_hours: Annotated[float, Range(1e-6, 1e6)] | None = None
    """Hours that all commands of a run may take together."""
    max_dollars: Annotated[float, Range(1e-6, 1e9)] | None = None
    """Dollars that all nodes may cost together, by `prices`."""
    prices: tuple[str, ...] = ()
    """Dollars per hour and node as NODE_TYPE=DOLLARS: of node types of an autoscaler, and `node` for all
    others (node=0.40)."""

    def __post_init__(self) -> None:
        check_settings("budget", self)
        self.price_list()
        if self.max_dollars is not None and ANY_NODE not in self.price_list():
            raise ValueError(
                "budget.max_dollars needs the price of a node: give at least --budget.prices "
                f"{ANY_NODE}=DOLLARS_PER_HOUR."
            )

    def price_list(self) -> dict[str, float]:
        """Dollars per hour by node type.

        Raises:
            ValueError: An entry of `prices` is not NODE_TYPE=DOLLARS, or a type has two.
        """
        prices: dict[str, float] = {}
        for entry in self.prices:
            name, _, text = entry.rpartition("=")
            try:
                price = float(text)
            except ValueError:
                price = -1.0
            if not name or not 0 <= price < 1e6 or name in prices:
                raise ValueError(
                    "budget.prices must be entries NODE_TYPE=DOLLARS_PER_HOUR, each type once, got "
                    f"{entry!r:.60}."
                )
            prices[name] = price
        return prices

    def price(self, node_type: str) -> float | None:
        """Dollars per hour of a node; None if unknown."""
        prices = self.price_list()
        return prices.get(node_type, prices.get(ANY_NODE))
