"""Bounds on a mean when items share a source: MMLU subjects, shared passages.

Items of one cluster rise and fall together, so the cluster is the independent unit. The variance is CR2 (Bell and
McCaffrey's bias-reduced linearisation) with their degrees of freedom, both in closed form for a mean; with clusters of
equal size it is the ordinary t interval of the cluster means.
Sources: Bell and McCaffrey 2002, Survey Methodology 28:169-181; Pustejovsky and Tipton 2018, J. Bus. Econ. Stat.
36:672-683; for evaluations, Miller 2024, arXiv:2411.00640.
"""

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.crossed import mean_interval
from harness.stats.interval import Interval, changes, check_alpha


def cluster_robust(d: ArrayLike, clusters: ArrayLike, alpha: float = 0.05, floor: bool = True) -> Interval:
    """Bounds on the mean change of items d [n], in [-1, 1], whose `clusters` [n] name their sources.

    The number of clusters counts as n does elsewhere: no spread between them is not certainty (see `mean_interval`).
    floor=False gives the bare t bound, for comparison only.
    Raises ValueError on NaN, another length, or fewer than two clusters.
    """
    d = changes(d, "d", axes=1)
    check_alpha(alpha)
    labels = np.asarray(clusters)
    if labels.shape != d.shape:
        raise ValueError(f"clusters has shape {labels.shape}, but d has {d.shape}; name one cluster for each item")
    _, index = np.unique(labels, return_inverse=True)
    size = np.bincount(index)
    if len(size) < 2:
        raise ValueError(f"clusters names {len(size)} source, but their spread needs two; leave clusters out")
    n, mean = len(d), float(d.mean())
    residual = np.bincount(index, weights=d - mean)
    se = np.sqrt((residual**2 / (1 - size / n)).sum()) / n
    weight = size**2 / (1 - size / n)
    df = n**2 / ((size**2).sum() + (weight.sum() ** 2 - (weight**2).sum()) / n**2)
    return mean_interval(d, float(se), float(df), alpha, units=len(size) if floor else None)
