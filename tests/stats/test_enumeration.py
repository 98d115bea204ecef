"""The gate's own error rate: enumerated, for every discordance; and that of the rules it replaces."""

import numpy as np
import pytest
from scipy.stats import multinomial

from harness.stats import (
    enumerated_size,
    exact_lower,
    exact_pass,
    mcnemar_pass,
    pass_probability,
    psi_grid,
    rule_table,
    tango_pass,
    wald_pass,
)

MARGINS = (0.01, 0.02, 0.03, 0.05)


def test_the_sum_over_outcomes_is_a_multinomial_probability():
    rng = np.random.default_rng(0)
    n, theta = 9, -0.1
    table = rule_table(lambda lost, gained, n, margin: rng.random((n + 1, n + 1)) < 0.4, n, 0.03)
    outcomes = np.argwhere(table)
    for psi in (0.1, 0.35, 1.0):
        rates = [(psi - theta) / 2, (psi + theta) / 2, 1 - psi]
        expected = multinomial.pmf(np.column_stack([outcomes, n - outcomes.sum(axis=1)]), n, rates).sum()
        assert pass_probability(table, theta, psi) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "margin"),
    [(n, margin) for n in (50, 100, 200, 300) for margin in MARGINS]
    + [(52, 0.05), (55, 0.05), (133, 0.02), (141, 0.02)],  # here Tango is worst: 7% at nominal 5%, 6% at nominal 4.5%
)
def test_the_gate_passes_no_more_than_5_percent_at_the_margin(n, margin):
    sizes = enumerated_size(n, margin, exact_pass(n, margin, psi_max=0.4), psi_grid(margin, top=0.4))
    assert sizes.max() <= 0.05


def test_the_gate_holds_even_where_the_models_disagree_on_everything():
    assert enumerated_size(60, 0.05, exact_pass(60, 0.05), psi_grid(0.05, top=1.0)).max() <= 0.05


def test_the_table_of_the_gate_is_its_bound():
    n, margin = 40, 0.08
    table = exact_pass(n, margin)
    for lost in range(n + 1):
        for gained in range(0, n + 1 - lost, 3):
            assert table[lost, gained] == (exact_lower(lost, gained, n) > -margin), (lost, gained)


def test_the_guarantee_costs_at_most_two_points_of_power():
    n, margin = 200, 0.03
    gate = pass_probability(exact_pass(n, margin, psi_max=0.2), 0.0, 0.10)[0]
    tango = pass_probability(rule_table(tango_pass, n, margin), 0.0, 0.10)[0]
    assert tango == pytest.approx(0.368, abs=0.001)
    assert gate >= tango - 0.02


@pytest.mark.parametrize(
    ("n", "tango", "wald"), [(100, 0.0515, 0.1946), (200, 0.0593, 0.1472), (300, 0.0602, 0.1485), (500, 0.0504, 0.0865)]
)
def test_worst_sizes_of_the_rivals(n, tango, wald):
    """The table of our statistics page: margins 2, 3 and 5 points, psi from the margin to 0.4."""
    assert max(enumerated_size(n, m, tango_pass).max() for m in MARGINS[1:]) == pytest.approx(tango, abs=5e-4)
    assert max(enumerated_size(n, m, wald_pass).max() for m in MARGINS[1:]) == pytest.approx(wald, abs=5e-4)


def test_not_significantly_worse_is_not_evidence():
    """A true drop of 5 points, n = 200, psi = 0.15, margin 3."""

    def within_margin(lost, gained, n, margin):
        return lost - gained <= round(n * margin)

    chances = [
        pass_probability(rule_table(rule, 200, 0.03), -0.05, 0.15)[0]
        for rule in (mcnemar_pass, within_margin, tango_pass)
    ]
    assert chances == pytest.approx([0.63, 0.26, 0.009], abs=0.005)


def test_planted_losses_are_caught():
    """5 points lost at the planned n = 687 for 3 points: the PASS that would ship it is rarer than 1 in 100."""
    table = exact_pass(687, 0.03, psi_max=0.12)
    assert pass_probability(table, -0.05, 0.10)[0] < 0.01
    assert pass_probability(table, 0.0, 0.10)[0] == pytest.approx(0.79, abs=0.01)


def test_impossible_discordance_is_an_error():
    with pytest.raises(
        ValueError, match=r"psis span \[0.01, 0.01\], but psi is at least the change 0.05 and at most 1"
    ):
        pass_probability(np.ones((11, 11), dtype=bool), -0.05, 0.01)
