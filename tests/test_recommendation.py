"""What the audit advises: fixed rules, each tied to a number, and nothing that the verdict does not hold."""

from __future__ import annotations

import pytest

from harness.report.recommendation import next_cycle, release
from tests.test_report import document, row


def tried(name: str, answer: str, closure: float = 0.9, retention: float | None = 0.9, full: str | None = None) -> dict:
    """Bounds lie a tenth around."""
    settings = {"merge": {"scale": 0.25}, "replay": {"share": 0.1, "kl": 0.0}, "isolation": {}}
    certificate = {"text": "0 of 1000 fresh general prompts went to the adapter"}
    return {
        "name": name, "spec": f"mitigations/{name}", "setting": settings[name], "answer": answer, "closure": closure,
        "closure_low": closure - 0.1, "closure_high": closure + 0.1, "retention": retention,
        "retention_low": retention and retention - 0.1, "retention_high": retention and retention + 0.1,
        "full": {"decision": full} if full else None,
        "note": {"certificate": certificate, "misrouted": {"domain": {"wrong": 3, "prompts": 400}}},
    }  # fmt: skip


def blocked(*mitigations: dict, verdict: str = "REGRESSED") -> dict:
    rows = [row("ifeval", verdict, -11.1), row("mmlu", "INCONCLUSIVE", -2.0), row("gsm8k", "PASS", 0.0)]
    worst = "ifeval" if verdict == "REGRESSED" else None
    return document(rows, "BLOCKED", 1, worst) | {"mitigations": list(mitigations)}


def test_a_candidate_that_passed_is_released():
    shipped = document([row("ifeval", "PASS", 0.0)], "SHIP", 0) | {"mitigations": []}
    assert release(shipped) == "Release m: every benchmark passed."
    assert next_cycle(shipped) == [
        "Watch ifeval, which comes closest to its limit: a loss of 3.0 points is not excluded, and 5 are allowed. Judge"
        " the next fine-tune against this same base too: losses within the limits add up."
    ]


def test_a_mitigation_is_released_only_if_it_passed_in_full():
    found = blocked(tried("merge", "no"), tried("isolation", "yes", retention=0.98, full="SHIP"))
    assert release(found) == (
        "Release the isolation candidate (mitigations/isolation, beside this verdict) instead of m: judged in full, it"
        " passes every benchmark and keeps 98% [88%, 108%] of the domain gain; 2 mitigations were tried on the same"
        " items, so that one passes by luck more often than one alone would."
    )
    found = blocked(tried("isolation", "yes", retention=None, full="SHIP"))
    assert release(found).endswith("it passes every benchmark, and there was no domain gain to keep.")
    found = blocked(tried("merge", "no"), tried("isolation", "yes", full="BLOCKED"))
    assert release(found).endswith(
        "no mitigation may ship in its place (merge: no, isolation: yes, and BLOCKED in full)."
    )
    found = blocked(tried("merge", "no"), tried("isolation", "yes"))  # judged again, when another one was the best
    assert release(found).endswith("(merge: no, isolation: yes, but not judged in full).")
    found = blocked(tried("isolation", "yes") | {"full_error": "OSError: disk full"})
    assert release(found).endswith("(isolation: yes, but it could not be judged in full).")


def test_what_a_release_costs_is_said_where_it_may_be_too_much():
    found = blocked(tried("merge", "cannot tell", retention=0.85, full="SHIP")) | {"retention_floor": 80.0}
    assert release(found).endswith("keeps 85% [75%, 95%] of the domain gain; that it is more than 80% is not shown.")


@pytest.mark.parametrize(
    ("answer", "picked_on"), [("cannot tell", ["ifeval"]), ("cannot tell", []), ("yes", ["ifeval"])]
)
def test_what_items_have_picked_is_released_only_if_others_show_that_it_closes_the_gap(answer, picked_on):
    found = blocked(tried("merge", answer, full="SHIP") | {"picked_on": picked_on})
    assert release(found).startswith("Release the merge" if answer == "yes" or not picked_on else "Release nothing")


def test_a_loss_that_the_experiment_s_items_do_not_show_has_no_share():
    merge = tried("merge", "yes", full="SHIP") | {"closure": None, "closure_low": None, "closure_high": None}
    assert "an unknown share of the loss came back" in " ".join(next_cycle(blocked(merge)))


def test_a_candidate_that_passed_is_not_called_blocked_for_another():
    found = blocked()
    found["candidates"].append({"spec": "n"})
    found["benchmarks"] += [row(name, "PASS", 0.0) | {"model": "n"} for name in ("ifeval", "mmlu", "gsm8k")]
    assert release(found).startswith("Release nothing: m is blocked (n passed every benchmark: judge what is to ship")


@pytest.mark.parametrize(
    ("mitigations", "why"),
    [
        ((), "no mitigation was tried"),
        ((tried("merge", "no"), tried("replay", "cannot tell")), "merge: no, replay: cannot tell"),
        (({"name": "replay", "error": "no data"},), "replay: could not be tried"),
    ],
)
def test_where_nothing_is_shown_to_close_the_gap_nothing_is_released(mitigations, why):
    said = release(blocked(*mitigations))
    assert said.startswith("Release nothing: m is blocked")
    assert why in said


def test_every_sentence_of_advice_carries_a_number_or_names_what_is_unknown():
    found = blocked(tried("merge", "no", 0.9, 0.2), tried("replay", "no", 0.6), tried("isolation", "yes"))
    advice = next_cycle(found)
    assert any("lost 11.1 points" in sentence for sentence in advice)
    assert any("90% [80%, 100%] of the loss came back and 20% [10%, 30%]" in sentence for sentence in advice)
    assert any("Train with 10% replay or more: 60% [50%, 70%] of the loss came back" in s for s in advice)
    assert any("3 of 400 fresh domain prompts stayed with the base. 0 of 1000 fresh general" in s for s in advice)
    assert any("mmlu on more items" in sentence and "cannot tell" in sentence for sentence in advice)


def test_what_is_not_shown_to_help_is_not_advised():
    advice = " ".join(next_cycle(blocked(tried("replay", "no", 0.1))))
    assert "Do not rely on 10% replay: 10% [0%, 20%] of the loss came back" in advice
    assert "Train with" not in advice
    unbounded = tried("replay", "cannot tell", 0.9) | {"closure_low": None}
    assert "90% [open, 100%] of the loss came back" in " ".join(next_cycle(blocked(unbounded)))
    assert "Train with" not in " ".join(next_cycle(blocked(unbounded)))


@pytest.mark.parametrize(
    ("mitigation", "said"),
    [
        (tried("merge", "cannot tell", 0.9, 0.7), "The update is larger than the domain needs: at 0.25 of the update"),
        (tried("merge", "cannot tell", 0.05, 0.7), "Scaling is not shown to close the gap"),
        (tried("merge", "cannot tell", 0.9, 0.3), "Do not expect scaling to help"),
        (tried("merge", "cannot tell", 0.9, None), "there was no domain gain to keep"),
        (tried("merge", "yes", full="BLOCKED"), "judged in full it is BLOCKED all the same"),
        (tried("isolation", "cannot tell"), "Routing is not shown to close the gap"),
        (tried("isolation", "no"), "Routing does not close the gap"),
    ],
)
def test_no_advice_says_more_than_was_found(mitigation, said):
    assert said in " ".join(next_cycle(blocked(mitigation)))


def test_more_items_are_not_advised_where_the_base_only_guesses():
    found = blocked()
    found["benchmarks"][1] |= {"base": 27.0, "floor": 25.0}
    advice = " ".join(next_cycle(found))
    assert "Decide mmlu by a metric that still moves" in advice
    assert "on more items" not in advice


def test_a_share_of_a_gain_that_is_not_shown_is_not_told():
    merge = tried("merge", "cannot tell", 1.0, 5.3, full="SHIP") | {"retention_low": -5.9}
    assert "of the loss came back and an unknown share of the domain gain was kept" in next_cycle(blocked(merge))[1]
    assert "passes every benchmark and keeps an unknown share of the domain gain" in release(blocked(merge))


def test_a_router_that_fails_is_not_said_to_have_kept_prompts_apart():
    said = " ".join(next_cycle(blocked(tried("isolation", "no", 0.0, 1.0))))
    assert "Routing does not close the gap: 0% [−10%, 10%] of the loss came back" in said
    assert "serve the adapter" not in said


def test_answers_that_no_longer_end_are_to_be_repaired_in_the_data():
    found = blocked()
    found["benchmarks"][0]["format"] = {"truncated": {"base": 2.0, "candidate": 31.0}}
    assert any("31.0% of the answers are truncated (base: 2.0%)" in sentence for sentence in next_cycle(found))


def test_more_items_are_not_asked_of_a_base_that_scores_as_by_guessing():
    found = blocked(verdict="INCONCLUSIVE")
    found["benchmarks"][0] |= {"base": 4.0, "floor": 0.0}
    advice = " ".join(next_cycle(found))
    assert "Evaluate mmlu on more items" in advice
    assert "Decide ifeval by a metric that still moves" in advice
