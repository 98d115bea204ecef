"""Planning figures, against the pages that quote them and against enumeration."""

import pytest

from harness.stats import detectable_margin, exact_pass, pass_probability, power_of, sample_size, zero_flip_bound


def test_quoted_sample_sizes():
    assert sample_size(0.03, psi=0.10) == 687
    assert sample_size(0.05, psi=0.10) == 248  # 247.3 items, and 247 fall short of 80%
    assert power_of(247, 0.05, 0.10) < 0.8 <= power_of(248, 0.05, 0.10)


def test_the_three_functions_are_one_relation():
    n = sample_size(0.03, 0.12, theta=-0.01, power=0.9)
    assert power_of(n - 1, 0.03, 0.12, -0.01) < 0.9 <= power_of(n, 0.03, 0.12, -0.01)
    assert detectable_margin(687, 0.10) == pytest.approx(0.03, abs=1e-5)


@pytest.mark.parametrize(("n", "margin", "psi"), [(200, 0.05, 0.10), (300, 0.03, 0.10)])
def test_power_is_close_to_that_of_the_gate(n, margin, psi):
    enumerated = pass_probability(exact_pass(n, margin, psi_max=psi), 0.0, psi)[0]
    assert power_of(n, margin, psi) == pytest.approx(enumerated, abs=0.05)


def test_no_plan_promises_what_zero_flips_cannot():
    assert sample_size(0.03, psi=0.0) == 99  # 98 items without a flip still allow 3.01 points
    assert power_of(98, 0.03, psi=0.0) == 0
    assert power_of(99, 0.03, psi=0.0) == 1
    assert detectable_margin(50, psi=0.001) == pytest.approx(zero_flip_bound(50))
    assert detectable_margin(1, psi=0.5) == 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: sample_size(0.03, 0.1, theta=-0.03),
            "theta is -0.03, a loss of the margin 0.03 or more, so no number",
        ),
        (lambda: sample_size(3, 0.1), "margin is 3, but a margin is a proportion"),
        (lambda: sample_size(0.03, 10), r"psi is 10, but the share of flips is between \|theta\| = 0.0 and 1"),
        (lambda: sample_size(0.03, 0.1, power=80), "power is 80, but it lies between alpha = 0.05 and 1"),
        (lambda: power_of(0, 0.03, 0.1), "n is 0, but a rate"),
        (lambda: detectable_margin(0, 0.1), "n is 0, but a rate"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
