"""Why a tick scored as it did: the features that weigh most, in their own units, and one plain sentence of them."""

from collections.abc import Sequence

import numpy as np

from detector.core.features import NAMES, natural
from detector.core.ring import Floats32
from redis_agent.model import Contribution

TOLD = 5
SAID = 3
_LARGE = 10_000
_SMALL = 0.01


def contributions(residual: Floats32, observed: Floats32, expected: Floats32) -> tuple[Contribution, ...]:
    """The five largest shares of the squared residuals [F]. Values [F] come on the features' curves."""
    squares = np.where(np.isfinite(residual), residual * residual, 0)
    total = float(squares.sum()) or 1.0
    seen, thought = natural(observed.astype(np.float64)), natural(expected.astype(np.float64))
    return tuple(
        Contribution(NAMES[f], float(seen[f]), float(thought[f]), float(squares[f]) / total)
        for f in np.argsort(-squares, kind="stable")[:TOLD]
        if squares[f] > 0
    )


def explanation(found: Sequence[Contribution]) -> str:
    """`clients_connected 480, expected about 12; …`: the three that weigh most."""
    return "; ".join(f"{c.feature} {number(c.observed)}, expected about {number(c.expected)}" for c in found[:SAID])


def number(value: float) -> str:
    """Three significant digits, thousands with commas, small ones without exponents."""
    if abs(value) >= _LARGE:
        return f"{float(f'{value:.3g}'):,.0f}"
    if value != 0 and abs(value) < _SMALL:
        return f"{value:.6f}".rstrip("0").rstrip(".") or "0"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
