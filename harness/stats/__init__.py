"""Every interval, test and stopping rule of the gate; numpy and scipy only. Each file names its sources.

    paired        right-or-wrong benchmarks, one seed: Tango's interval, and the exact one that the gate uses
    enumeration   the true error rate of a pass rule, by adding up all outcomes
    crossed       several seeds and several training runs
    bounded       fractional scores, one seed
    clusters      items that share a source
    proportions, multiplicity, bootstrap, power
    shares        right answers with ties, of one or several training runs
    preference    win rates of a blind head-to-head, prompt by prompt; agreement: Krippendorff's alpha
    sequential    stopping early

All values are proportions; low and high are each a one-sided bound at confidence 1 - alpha.
"""

from harness.stats.agreement import agreement, krippendorff_alpha
from harness.stats.bootstrap import bootstrap
from harness.stats.bounded import bounded_interval
from harness.stats.clusters import cluster_robust
from harness.stats.crossed import (
    Components,
    CrossedInterval,
    components,
    crossed,
    crossed_pvalue,
    crossed_recipe,
    with_floor,
)
from harness.stats.enumeration import (
    enumerated_size,
    exact_pass,
    mcnemar_pass,
    pass_probability,
    psi_grid,
    rule_table,
    tango_pass,
    wald_pass,
)
from harness.stats.interval import Interval, smallest_level, zero_flip_bound
from harness.stats.multiplicity import benjamini_hochberg, holm
from harness.stats.paired import exact_lower, exact_pvalue, paired_interval, tango, tango_z
from harness.stats.power import detectable_margin, power_of, sample_size
from harness.stats.preference import (
    editor_rate,
    position_bias,
    prompts_to_settle,
    vote_correlation,
    win_power,
    win_rate,
)
from harness.stats.proportions import clopper_pearson, wilson
from harness.stats.sequential import betting_bounds, betting_evalues, stopping_time
from harness.stats.shares import by_source, needed_for_share, share_interval

__all__ = [
    "Components",
    "CrossedInterval",
    "Interval",
    "agreement",
    "benjamini_hochberg",
    "betting_bounds",
    "betting_evalues",
    "bootstrap",
    "bounded_interval",
    "by_source",
    "clopper_pearson",
    "cluster_robust",
    "components",
    "crossed",
    "crossed_pvalue",
    "crossed_recipe",
    "detectable_margin",
    "editor_rate",
    "enumerated_size",
    "exact_lower",
    "exact_pass",
    "exact_pvalue",
    "holm",
    "krippendorff_alpha",
    "mcnemar_pass",
    "needed_for_share",
    "paired_interval",
    "pass_probability",
    "position_bias",
    "power_of",
    "prompts_to_settle",
    "psi_grid",
    "rule_table",
    "sample_size",
    "share_interval",
    "smallest_level",
    "stopping_time",
    "tango",
    "tango_pass",
    "tango_z",
    "vote_correlation",
    "wald_pass",
    "wilson",
    "win_power",
    "win_rate",
    "with_floor",
    "zero_flip_bound",
]
