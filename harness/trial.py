"""One mitigated model on one half of the items: its verdicts, what it gives back and what it keeps.

Settings are compared on the selection half; the one that was picked is judged on the confirmation half, whose items did
not pick it (`closure.half_of`). Both halves are a subset of the benchmarks, as the basket's [mitigation] table says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.benchmarks import Item
from harness.checkpoints import CheckedModel
from harness.closure import closure, half_of, retention
from harness.judging import Judging
from harness.specs import Experiment
from harness.stats.interval import Interval
from harness.verdict import PASS, REGRESSED, Verdict, decide, judge

YES, NO, CANNOT_TELL = "yes", "no", "cannot tell"


@dataclass(frozen=True)
class Trial:
    """closure: of the largest regression; retention: of the domain gain, None where the candidate has gained nothing.

    gain: change on the domain set; decision: of the verdicts alone; seconds: that the models took to answer.
    """

    setting: dict[str, Any]
    model: CheckedModel
    half: str
    verdicts: tuple[Verdict, ...]
    closure: Interval
    retention: Interval | None
    gain: Interval
    seconds: float

    @property
    def decision(self) -> str:
        return decide(self.verdicts)[0]

    @property
    def passes(self) -> bool:
        return all(verdict.verdict == PASS for verdict in self.verdicts)

    def closes(self, floor: float) -> str:
        """YES if every benchmark passes and more than `floor` (a proportion) of the domain gain is shown to be kept."""
        kept = self.retention
        if any(v.verdict == REGRESSED for v in self.verdicts) or (kept and kept.high < floor):
            return NO
        return YES if self.passes and (kept is None or kept.low > floor) else CANNOT_TELL


def subset(audit: Judging, benchmark: str, half: str, experiment: Experiment) -> tuple[Item, ...]:
    """The items of a half, the first so many in the order in which they were drawn."""
    return tuple(i for i in audit.items(benchmark) if half_of(i.id) == half)[: experiment.items]


def subset_seeds(audit: Judging, benchmark: str, experiment: Experiment) -> tuple[int, ...]:
    """The seeds of a benchmark that count: the last ones, under which the fewest answers are written."""
    seeds = audit.seeds(benchmark)
    return seeds if audit.benchmarks[benchmark].temperature > 0 else seeds[-experiment.seeds :]


def tried(
    audit: Judging,
    candidate: CheckedModel,
    model: CheckedModel,
    setting: dict[str, Any],
    half: str,
    skills: Sequence[str],
    target: str,
    experiment: Experiment,
) -> Trial:
    """Judges a mitigated model on half of the items of `skills` and of the first domain set; evaluates what is missing.

    target: the benchmark whose regression it is to close, one of `skills`.
    """
    domain = audit.basket.domains[0].name

    def compared(name: str, side: CheckedModel):
        items, seeds = subset(audit, name, half, experiment), subset_seeds(audit, name, experiment)
        return audit.comparison(side, name, items=items, seeds=seeds)

    before, after = compared(domain, candidate), compared(domain, model)
    verdicts = tuple(judge(compared(name, model), *audit.limits(name), audit.policy) for name in skills)
    gained = before.change.mean() > 0
    return Trial(
        setting=setting,
        model=model,
        half=half,
        verdicts=verdicts,
        closure=closure(compared(target, candidate), compared(target, model), audit.policy.alpha),
        retention=retention(before, after, audit.policy.alpha) if gained else None,
        gain=_change(after, audit.policy.alpha),
        seconds=sum(_seconds(audit, model, name, half, experiment) for name in (*skills, domain)),
    )


def _change(comparison, alpha: float) -> Interval:
    from harness import stats

    bound = stats.crossed(comparison.change, alpha)
    return Interval(bound.estimate, bound.low, bound.high)


def _seconds(audit: Judging, model: CheckedModel, name: str, half: str, experiment: Experiment) -> float:
    """What the stored answers took; nothing for a routed model, whose answers are those of base and candidate."""
    if model.routed:
        return 0.0
    items = subset(audit, name, half, experiment)
    seeds = subset_seeds(audit, name, experiment)
    return sum(score.seconds for seed in seeds for score in audit.scores(model, name, seed, items).values())
