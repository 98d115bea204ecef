"""Which items judge a mitigation: none that picked its setting, and of all others as many as the experiment takes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from harness.benchmarks import Item
from harness.closure import CONFIRMATION, SELECTION, half_of
from harness.specs import Basket, Benchmark, Experiment, Policy
from harness.trial import ALL, out_of_reach, part_of, settings_of, subset_of, tried
from tests.test_closure import comparison

ITEMS = tuple(Item(f"task:{n}", "task", {}) for n in range(200))


@pytest.mark.parametrize(
    ("half", "name", "picked_on", "part"),
    [
        (SELECTION, "lost", (), SELECTION),
        (CONFIRMATION, "lost", ("lost",), CONFIRMATION),
        (CONFIRMATION, "kept", ("lost",), ALL),  # its items have picked nothing
        (CONFIRMATION, "lost", (), ALL),  # one setting: nothing was picked
    ],
)
def test_the_items_that_picked_judge_no_more(half, name, picked_on, part):
    assert part_of(half, name, picked_on) == part


@pytest.mark.parametrize("items", [30, 100, 1000])
def test_all_items_are_those_of_both_halves_in_their_order(items):
    halves = [subset_of(ITEMS, part, Experiment(items=items)) for part in (SELECTION, CONFIRMATION)]
    assert [{half_of(item.id) for item in half} for half in halves] == [{SELECTION}, {CONFIRMATION}]
    assert max(map(len, halves)) == min(items, max(map(len, halves)))
    both = subset_of(ITEMS, ALL, Experiment(items=items))
    assert list(both) == sorted({*halves[0], *halves[1]}, key=ITEMS.index)
    assert len(subset_of(ITEMS, ALL, Experiment(items=1000))) == 200


def test_the_safest_setting_comes_first_and_none_twice():
    experiment = Experiment(scales=(0.5, 0.25, 0.5), shares=(0.1, 0.25, 0.1), kl=0.2)
    assert settings_of("merge", experiment) == [{"scale": 0.25}, {"scale": 0.5}]
    assert settings_of("replay", experiment) == [{"share": 0.25, "kl": 0.2}, {"share": 0.1, "kl": 0.2}]
    assert settings_of("isolation", experiment) == [{}]


@pytest.mark.parametrize(
    ("picked", "margin", "reached"),
    [
        (False, 1.6, True),  # some 197 items without a loss leave 1.51 points open
        (False, 1.4, False),
        (True, 1.5, False),  # about 100 items leave 2.95
        (True, 3.5, True),
    ],
)
def test_what_so_many_items_can_show_is_known_before_any_model_runs(picked, margin, reached):
    basket = Basket("b", (Benchmark("skill", "t", margin=margin), Benchmark("gain", "t", role="domain")))
    audit = SimpleNamespace(basket=basket, policy=Policy(), benchmarks={"skill": SimpleNamespace(items=ITEMS)})
    found = list(out_of_reach(audit, Experiment(items=100), picked))
    assert [name for name, *_ in found] == ([] if reached else ["skill"])
    for _, part, items, best in found:
        assert part == (CONFIRMATION if picked else ALL)
        assert best == pytest.approx(1 - 0.05 ** (1 / items))


@pytest.mark.parametrize(("lost", "shown"), [(6, False), (5, False), (7, True)])
def test_what_these_items_do_not_show_as_lost_cannot_be_given_back(lost, shown):
    """The candidate regressed on all items; on those of a trial it has won six and lost so many."""
    wins = np.zeros(100)
    wins[:6], wins[6 : 6 + lost] = 1, -1
    changes = {"candidate": wins, "mitigated": np.zeros(100)}
    audit = SimpleNamespace(
        basket=Basket("b", (Benchmark("skill", "t", margin=5.0), Benchmark("gain", "t", role="domain"))),
        policy=Policy(),
        benchmarks={name: SimpleNamespace(temperature=0.0) for name in ("skill", "gain")},
        items=lambda name: ITEMS,
        seeds=lambda name: (0, 1),
        comparison=lambda side, name, **_: comparison(changes[side.spec.text]),
        make_ready=lambda work: None,
        limits=lambda name: (0.05, 0.0),
        scores=lambda *_: {},
    )
    sides = [SimpleNamespace(spec=SimpleNamespace(text=text), routed=None) for text in changes]
    found = tried(audit, *sides, {}, CONFIRMATION, ["skill"], "skill", Experiment())
    assert (found.closure is not None) == shown
    if shown:
        assert found.closure.estimate == pytest.approx(1)
