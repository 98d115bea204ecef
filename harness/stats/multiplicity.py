"""Many benchmarks at once: adjusted p-values, to be compared with alpha as they are.

A release needs no correction, because it is an AND of passes (intersection-union test). Naming which benchmark
regressed does: Holm over a basket, Benjamini-Hochberg over the 57 subjects of MMLU.
Sources: Holm 1979, Scand. J. Stat. 6:65-70; Benjamini and Hochberg 1995, JRSS B 57:289-300.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.stats.interval import finite


def holm(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, same order; claims below alpha: the chance that any is false is at most alpha."""
    p = _check_pvalues(pvalues)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    return _restore(np.maximum.accumulate(scaled), order)


def benjamini_hochberg(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values, same order: of the claims below alpha, at most a share alpha is false on average."""
    p = _check_pvalues(pvalues)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _restore(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _restore(ordered: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    adjusted = np.empty_like(ordered)
    adjusted[order] = np.minimum(ordered, 1)
    return adjusted


def _check_pvalues(pvalues: ArrayLike) -> NDArray[np.float64]:
    p = finite(pvalues, "pvalues", axes=1)
    if (p < 0).any() or (p > 1).any():
        raise ValueError(f"pvalues range over [{p.min()}, {p.max()}], but they are probabilities; check the tests")
    return p
