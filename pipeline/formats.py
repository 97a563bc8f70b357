"""Numbers as text for people: 45,300; 61.2 %; 1 min 32 s; 1.24 uJ. A missing measurement is a dash."""

from __future__ import annotations

NOT_MEASURED = "\u2013"
COST_NAMES = {"spikes": "spikes", "synops": "synaptic operations", "energy": "estimated joules"}
"""What `search.cost` may save, in words."""
_SPACE = "\u00a0"  # keeps a number and its unit on one line


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A share in [0, 1] as a percentage."""
    if value is None:
        return NOT_MEASURED
    digits = 2 if 0 < value < 0.01 else 1
    return f"{100 * value:.{digits}f}{_SPACE}%"


def large(value: float | None) -> str:
    """A large number with three significant digits and the suffix k, M or G."""
    if value is None:
        return NOT_MEASURED
    return _scaled(value, ((1e9, f"{_SPACE}G"), (1e6, f"{_SPACE}M"), (1e3, f"{_SPACE}k")), "")


def energy(joules: float | None) -> str:
    """An energy in mJ, microjoules or nJ."""
    if joules is None:
        return NOT_MEASURED
    return _scaled(joules, ((1e-3, f"{_SPACE}mJ"), (1e-6, f"{_SPACE}\u00b5J"), (1e-9, f"{_SPACE}nJ")), " J")


def cost(value: float | None, name: str) -> str:
    """A cost that `search.cost` names, with its unit unless it is spikes."""
    if name == "energy":
        return energy(value)
    return f"{large(value)} SynOps" if name == "synops" else count(value)


def duration(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return NOT_MEASURED
    if 0 < seconds < 0.1:
        return f"{1000 * seconds:.2g}{_SPACE}ms"
    if 0 < seconds < 10:
        return f"{seconds:.1f}{_SPACE}s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    if round(seconds) == 0:
        return f"0{_SPACE}s"
    remaining = round(seconds)
    parts: list[str] = []
    for name, size in units:
        number, remaining = divmod(remaining, size)
        if number or parts:
            parts.append(f"{number}{_SPACE}{name}")
        if len(parts) == 2:
            break
    return _SPACE.join(parts)


def _scaled(value: float, units: tuple[tuple[float, str], ...], plain_unit: str) -> str:
    """`value` with three significant digits in the largest of `units` (sizes and names) not above it.

    A value below all units is given in the smallest of them if that is below 1, else in `plain_unit`.
    """
    size, name = next((unit for unit in units if abs(value) >= unit[0]), (1.0, plain_unit))
    if value and abs(value) < units[-1][0] < 1:
        size, name = units[-1]
    scaled = value / size
    digits = 0 if abs(scaled) >= 100 or scaled == 0 else 1 if abs(scaled) >= 10 else 2
    return f"{scaled:.{digits}f}{name}"
