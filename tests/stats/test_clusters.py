"""Cluster-robust bounds: against the t interval of cluster means and against the matrix form of CR2."""

import numpy as np
import pytest
from scipy.stats import t as student

from harness.stats import cluster_robust, zero_flip_bound
from harness.stats.crossed import mean_interval


def test_equal_clusters_give_the_t_interval_of_their_means():
    d = np.clip(np.random.default_rng(0).normal(0, 0.3, (12, 5)) + np.linspace(-0.2, 0.2, 12)[:, None], -1, 1)
    means = d.mean(axis=1)
    se = means.std(ddof=1) / np.sqrt(12)
    bound = cluster_robust(d.ravel(), np.repeat(np.arange(12), 5))
    assert bound == pytest.approx(mean_interval(d.ravel(), se, 11, 0.05, 12))
    assert bound.low <= means.mean() - student.isf(0.05, 11) * se


def test_unequal_clusters_give_cr2_with_its_degrees_of_freedom():
    rng = np.random.default_rng(1)
    labels = np.repeat(["a", "b", "c", "d", "e"], [2, 9, 4, 1, 14])
    d = rng.uniform(-0.6, 0.5, len(labels))
    n = len(d)
    variance, vectors = 0.0, []
    for label in np.unique(labels):
        own = labels == label
        hat = np.full((own.sum(), own.sum()), 1 / n)
        values, basis = np.linalg.eigh(np.eye(own.sum()) - hat)
        adjust = basis @ np.diag(values**-0.5) @ basis.T
        variance += (adjust @ (d[own] - d.mean())).sum() ** 2 / n**2
        vectors.append((np.eye(n) - 1 / n)[:, own] @ adjust @ np.ones(own.sum()))
    gram = np.array(vectors) @ np.array(vectors).T
    df = np.trace(gram) ** 2 / (gram**2).sum()
    assert cluster_robust(d, labels) == pytest.approx(mean_interval(d, variance**0.5, df, 0.05, 5))


def test_a_shared_source_widens_the_bound():
    rng = np.random.default_rng(2)
    d = np.repeat(rng.choice([-1.0, 0.0, 1.0], 20), 10)
    assert cluster_robust(d, np.repeat(np.arange(20), 10)).low < cluster_robust(d, np.arange(200)).low - 0.1


def test_clusters_without_spread_are_not_certainty():
    assert cluster_robust([0.0] * 6, [1, 1, 2, 2, 3, 3]).low == pytest.approx(-zero_flip_bound(3))


@pytest.mark.parametrize(
    ("clusters", "text"),
    [
        ([1, 1], "clusters names 1 source, but their spread needs two; leave clusters out"),
        ([1], r"clusters has shape \(1,\), but d has \(2,\); name one cluster for each item"),
    ],
)
def test_errors(clusters, text):
    with pytest.raises(ValueError, match=text):
        cluster_robust([0.1, 0.2], clusters)
