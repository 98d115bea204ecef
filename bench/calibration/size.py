"""How often a pass rule lets through a candidate that lost exactly the margin: every outcome added up, none simulated.

On n items, `lost` were right before and are wrong now, `gained` the reverse. The chance of a pass at the margin depends
on the discordance, the share of items that flip either way, so it is computed over a fine grid of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness import stats

ITEMS = (50, 100, 200, 300, 500, 1000, 2000)
MARGINS = (0.01, 0.02, 0.03, 0.05)
TOP, STEPS = 0.4, 400  # of the grid of discordances, which starts at the margin

RULES: dict[str, Callable[[int, float], NDArray[np.bool_]]] = {
    "Lethe": lambda n, margin: stats.exact_pass(n, margin, psi_max=TOP),
    "CLT": lambda n, margin: stats.rule_table(stats.wald_pass, n, margin),
    "McNemar": lambda n, margin: stats.rule_table(stats.mcnemar_pass, n, margin),
}


def grid(margin: float) -> NDArray[np.float64]:
    """The discordances at which a rule is tried, shape [STEPS], from the margin (its least possible value) to `TOP`."""
    return stats.psi_grid(margin, TOP, STEPS)


def false_passes(n: int, margin: float, rule: str) -> NDArray[np.float64]:
    """Chance in [0, 1] that `rule` passes a candidate that lost the margin, one for each discordance of `grid`."""
    return stats.enumerated_size(n, margin, RULES[rule](n, margin), grid(margin))


def power(n: int, margin: float, psi: float) -> dict[str, float]:
    """Chance in [0, 1] that a candidate that did not change passes: under the gate, and under Tango's score bound."""
    tables = {"Lethe": RULES["Lethe"](n, margin), "Tango": stats.rule_table(stats.tango_pass, n, margin)}
    return {rule: float(stats.pass_probability(table, 0.0, psi)[0]) for rule, table in tables.items()}
