"""Adjusted p-values, against the step procedures that they stand for and against scipy."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from harness.stats import benjamini_hochberg, holm


def holm_by_steps(pvalues, alpha):
    rejected = np.zeros(len(pvalues), dtype=bool)
    for step, i in enumerate(np.argsort(pvalues)):
        if pvalues[i] > alpha / (len(pvalues) - step):
            break
        rejected[i] = True
    return rejected


def test_holm_rejects_what_its_steps_reject():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.uniform(0, 1, rng.integers(1, 9)) ** 3
        for alpha in (0.01, 0.05, 0.2):
            assert (holm(p) <= alpha).tolist() == holm_by_steps(p, alpha).tolist()


def test_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_benjamini_hochberg_agrees_with_scipy():
    p = np.random.default_rng(1).uniform(0, 1, 57) ** 2
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p))


@pytest.mark.parametrize("function", [holm, benjamini_hochberg])
def test_edges(function):
    assert function([0.2]) == pytest.approx([0.2])
    assert function([1.0, 1.0]) == pytest.approx([1, 1])
    assert function([0.04] * 3) == pytest.approx([0.12 if function is holm else 0.04] * 3)
    with pytest.raises(ValueError, match="pvalues is empty"):
        function([])
    with pytest.raises(ValueError, match=r"pvalues range over \[0.1, 1.2\], but they are probabilities"):
        function([0.1, 1.2])
