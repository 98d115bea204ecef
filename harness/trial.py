"""One mitigated model on items that did not pick its setting: its verdicts, what it gives back and what it keeps.

An item that helped to pick a setting makes the picked one look better than it is, so it judges no more. Which items
pick? Where a mitigation has several settings, the selection halves (`closure.half_of`) of the benchmarks that the
candidate lost, and no others: so those benchmarks are judged on their other halves, and all others on all their items.
Where it has one setting nothing is picked, no item has been looked at, and all of them judge: the bounds are those that
any candidate gets. The model never depends on the items in another way, as what it is made from holds none of them.

One thing stays: the loss that is to be closed was named on all items, as the largest. So closure, whose denominator it
is, leans a little towards the better; the verdicts and retention do not depend on it. And where benchmarks stop early,
the items are those that decided the candidate, whose number its answers have set: bounds for a fixed number are then an
approximation, and only the judgement in full, which may stop at any time, holds its error rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.benchmarks import Item
from harness.checkpoints import CheckedModel
from harness.closure import CONFIRMATION, SELECTION, closure, half_of, retention
from harness.judging import Judging
from harness.specs import Experiment
from harness.stats.interval import Interval, zero_flip_bound
from harness.verdict import PASS, REGRESSED, Verdict, decide, judge

YES, NO, CANNOT_TELL = "yes", "no", "cannot tell"
ALL = "all"  # the items of both halves


@dataclass(frozen=True)
class Trial:
    """half: SELECTION where settings are compared, CONFIRMATION where the picked one is judged; picked_on: the
    benchmarks whose selection halves have picked it, none where there was nothing to pick.

    closure: of the largest regression, None where these items show no loss of the candidate; retention: of the
    domain gain, None where the candidate has gained nothing. gain: change on the domain set; decision: of the
    verdicts alone; seconds: that the models took to answer.
    """

    setting: dict[str, Any]
    model: CheckedModel
    half: str
    picked_on: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    closure: Interval | None
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
        """YES if every benchmark passes and more than `floor` (a proportion) of the domain gain is shown to be kept.

        Where the candidate has gained nothing there is nothing to keep.
        """
        kept = self.retention
        if any(v.verdict == REGRESSED for v in self.verdicts) or (kept and kept.high < floor):
            return NO
        return YES if self.passes and (kept is None or kept.low > floor) else CANNOT_TELL


def settings_of(name: str, experiment: Experiment) -> list[dict[str, Any]]:
    """The settings of a mitigation, safest first, each once."""
    if name == "merge":
        return [{"scale": scale} for scale in sorted(set(experiment.scales))]
    if name == "replay":
        return [{"share": share, "kl": experiment.kl} for share in sorted(set(experiment.shares), reverse=True)]
    return [{}]


def part_of(half: str, benchmark: str, picked_on: Sequence[str]) -> str:
    """The part of a benchmark's items that a trial on `half` is judged on: that half, or ALL if none of them picked."""
    return half if half == SELECTION or benchmark in picked_on else ALL


def subset_of(items: Sequence[Item], part: str, experiment: Experiment) -> tuple[Item, ...]:
    """The items of a part, of each half the first so many in the order in which they were drawn."""
    halves = (SELECTION, CONFIRMATION) if part == ALL else (part,)
    kept = {i.id for half in halves for i in [i for i in items if half_of(i.id) == half][: experiment.items]}
    return tuple(item for item in items if item.id in kept)


def subset(audit: Judging, benchmark: str, part: str, experiment: Experiment) -> tuple[Item, ...]:
    """`subset_of` the items that are judged."""
    return subset_of(audit.items(benchmark), part, experiment)


def subset_seeds(audit: Judging, benchmark: str, experiment: Experiment) -> tuple[int, ...]:
    """The seeds of a benchmark that count: the last ones, under which the fewest answers are written."""
    seeds = audit.seeds(benchmark)
    return seeds if audit.benchmarks[benchmark].temperature > 0 else seeds[-experiment.seeds :]


def out_of_reach(audit: Judging, experiment: Experiment, picked: bool) -> Iterator[tuple[str, str, int, float]]:
    """(benchmark, part, items, loss that so many cannot exclude) where no verdict of a trial can be PASS.

    Known before any model runs: even where no answer changes, n items show no less than `zero_flip_bound(n)`. picked:
    whether several settings are tried, so that a benchmark which regresses is judged on one half of its items.
    """
    for benchmark in audit.basket.skills:
        part = CONFIRMATION if picked else ALL
        items = len(subset_of(audit.benchmarks[benchmark.name].items, part, experiment))
        best = zero_flip_bound(items, audit.policy.alpha) if items else 1.0
        if best >= benchmark.margin / 100:
            yield benchmark.name, part, items, best


def tried(
    audit: Judging,
    candidate: CheckedModel,
    model: CheckedModel,
    setting: dict[str, Any],
    half: str,
    skills: Sequence[str],
    target: str,
    experiment: Experiment,
    picked_on: Sequence[str] = (),
) -> Trial:
    """Judges a mitigated model on `skills` and on the first domain set; evaluates what is missing.

    half, picked_on: see `Trial`; target: the benchmark whose regression it is to close, one of `skills`.
    """
    domain = audit.basket.domains[0].name

    def asked(name: str) -> dict[str, Any]:
        items = subset(audit, name, part_of(half, name, picked_on), experiment)
        return {"items": items, "seeds": subset_seeds(audit, name, experiment)}

    wanted = {name: asked(name) for name in (domain, *skills)}

    def compared(name: str, side: CheckedModel):
        return audit.comparison(side, name, **wanted[name])

    audit.make_ready([(model, name, part["seeds"], part["items"]) for name, part in wanted.items()])
    before, after = compared(domain, candidate), compared(domain, model)
    verdicts = tuple(judge(compared(name, model), *audit.limits(name), audit.policy) for name in skills)
    gained = before.change.mean() > 0
    lost, left = compared(target, candidate), compared(target, model)
    parts = {name: part_of(half, name, picked_on) for name in skills}
    parts[domain] = CONFIRMATION if picked_on else part_of(half, domain, ())  # the rest was answered to be picked
    return Trial(
        setting=setting,
        model=model,
        half=half,
        picked_on=tuple(picked_on),
        verdicts=verdicts,
        closure=closure(lost, left, audit.policy.alpha) if lost.change.mean() < 0 else None,
        retention=retention(before, after, audit.policy.alpha) if gained else None,
        gain=_change(after, audit.policy.alpha),
        seconds=sum(_seconds(audit, model, name, part, experiment) for name, part in parts.items()),
    )


def _change(comparison, alpha: float) -> Interval:
    from harness import stats

    bound = stats.crossed(comparison.change, alpha)
    return Interval(bound.estimate, bound.low, bound.high)


def _seconds(audit: Judging, model: CheckedModel, name: str, part: str, experiment: Experiment) -> float:
    """What the stored answers took; nothing for a routed model, whose answers are those of base and candidate."""
    if model.routed:
        return 0.0
    items = subset(audit, name, part, experiment)
    seeds = subset_seeds(audit, name, experiment)
    return sum(score.seconds for seed in seeds for score in audit.scores(model, name, seed, items).values())
