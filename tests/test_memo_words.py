"""What the memo says: no claim beyond the verdict, in words that need no statistics."""

from __future__ import annotations

import hashlib
import re

import pytest

from harness.report.memo import content, pdf_of
from harness.report.memo_decision import decision
from harness.report.memo_losses import worth
from harness.report.memo_markdown import markdown_of
from harness.report.memo_repair import limits
from harness.report.verdict_text import text_of
from tests import verdicts
from tests.printed import MADE, letters, pages, strings
from tests.verdicts import row

# ---- what page 1 says ------------------------------------------------------------------------------------------------


def test_a_ship_names_the_candidate_and_what_came_closest():
    said = decision(verdicts.ship())
    assert said["title"] == "Ship acme/med-7b"
    assert said["headline"] == "On both benchmarks the loss is shown to be smaller than allowed."
    assert "mmlu comes closest to its limit: it changed by −0.4 points" in said["story"]
    assert "the low end of its range, −2.4, is a smaller loss than the 3 allowed" in said["story"]
    assert "nothing of skills that were not tested" in said["story"]


def test_a_regression_is_said_with_its_size_and_limit():
    said = decision(verdicts.blocked())
    assert said["title"] == "Do not ship acme/med-7b"
    assert said["headline"] == "11.1 points were lost on ifeval; at most 5 are allowed."
    assert (
        "went from 60.0 to 48.9. Even the high end of the range, a loss of 9.1, is more than allowed." in said["story"]
    )
    assert "On gsm8k the data cannot tell, which is no sign of safety. 1 of 3 benchmarks passed." in said["story"]
    assert "On medqa, the domain of the tuning, 8.1 points were gained." in said["story"]
    assert said["recommendation"].startswith("Release the merge candidate")


def test_inconclusive_never_reads_as_safe():
    document = verdicts.inconclusive()
    said = decision(document)
    assert said["title"] == "Do not ship acme/med-7b yet"
    assert said["headline"] == "On ifeval the data cannot tell whether too much was lost."
    assert "that is not the same as safe" in said["story"]
    assert "For ifeval, about 583 questions would probably decide ifeval." in said["story"]
    for text in (*pages(pdf_of(document)), markdown_of(content(document))):
        told = letters(text)
        assert "Shipacme" not in told
        assert "shownsafe" not in told
        assert not re.search(r"(?<!not)(?<!toship)smallerthanallowed\.", told)
    assert "is not shown to be safe" in " ".join(strings(content(document)))


def test_a_gain_that_is_not_shown_is_not_claimed():
    document = verdicts.ship() | {"domain": [verdicts.gain(change=1.0, low=-1.0, high=3.0)]}
    assert "no gain is shown: +1.0 [−1.0, +3.0] points." in decision(document)["story"]
    assert worth(document)["text"].startswith(
        "No gain is shown that could be worth a loss. The candidate changed by +1.0"
    )


def test_that_nothing_passed_is_said_in_words():
    rows = [row("mmlu", "REGRESSED", -9.0), row("gsm8k", "INCONCLUSIVE", -4.0)]
    assert "None of the 2 benchmarks passed." in decision(verdicts.document(rows, "BLOCKED", 1))["story"]
    story = decision(verdicts.document(rows[1:], "BLOCKED", 10))["story"]
    assert "No other benchmark was judged." in story
    assert "passed" not in story


def test_a_base_that_scores_as_by_guessing_is_said_in_words():
    rows = [row("gsm8k", "INCONCLUSIVE", -1.0, base=4.0, reason="the base is within the margin; decide by another")]
    story = decision(verdicts.document(rows, "BLOCKED", 10))["story"]
    assert "On gsm8k even the base scores 4.0, too close to guessing (0.0) for a loss of 5 to show." in story
    assert "decide by" not in story


def test_what_would_decide_is_not_lost_behind_what_the_verdict_is_about():
    reason = "change lies on both sides; about 300 items would probably decide it; about these 2 runs, as three are"
    rows = [row("gsm8k", "INCONCLUSIVE", -1.0, reason=reason)]
    story = decision(verdicts.document(rows, "BLOCKED", 10))["story"]
    assert "For gsm8k, about 300 questions would probably decide it." in story


def test_questions_that_were_left_out_are_not_called_others():
    document = verdicts.ship()
    assert "Other questions would have given" in decision(document)["tested"]
    document["policy"] |= {"stopping": "early"}
    assert "which were left out once the answer was clear" in decision(document)["tested"]
    assert "Other questions" not in decision(document)["tested"]


def test_a_regression_of_one_of_several_candidates_says_whose():
    models = [{"spec": name, "digest": "0" * 64, "adapter": True} for name in ("one", "two")]
    rows = [row("mmlu", "PASS", 0.0, model="one"), row("mmlu", "REGRESSED", -9.0, model="two")]
    said = decision(verdicts.document(rows, "BLOCKED", 1, candidates=models, domain=[]))
    assert said["headline"] == "9.0 points were lost on mmlu by candidate 2; at most 5 are allowed."
    assert [row["name"] for row in said["results"]["rows"]] == ["mmlu (1)", "mmlu (2)"]


def test_a_long_table_keeps_what_did_not_pass_and_counts_the_rest():
    rows = [row(f"b{n}", "PASS", 0.0) for n in range(20)] + [row("bad", "REGRESSED", -9.0)]
    document = verdicts.document(rows, "BLOCKED", 1)
    results = decision(document)["results"]
    assert results["kept"][-1] == 20
    assert len(results["kept"]) == 14
    assert results["more"] == "Left out here and in the figure: 7 PASS; memo.md lists all."
    assert all(f"| b{n} |" in markdown_of(content(document)) for n in range(20))
    assert len(pages(pdf_of(document))) == 3


# ---- pages 2 and 3 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (
            "ship",
            "Yes, by the limits that were set: every loss is shown to be smaller than allowed. The candidate gained",
        ),
        ("blocked", "Not by the limits that were set: a larger loss than allowed is shown. The candidate gained 8.1"),
        ("inconclusive", "That cannot be said yet: whether more was lost than allowed is not known. The candidate"),
    ],
)
def test_the_question_whether_it_was_worth_it_is_answered(name, answer):
    assert worth(MADE[name]())["text"].startswith(answer)


def test_several_candidates_have_no_common_answer():
    models = [{"spec": name, "digest": "0" * 64, "adapter": True} for name in ("one", "two")]
    rows = [row("mmlu", "PASS", 0.0, model="one"), row("mmlu", "REGRESSED", -9.0, model="two")]
    gains = [verdicts.gain(model="one"), verdicts.gain(model="two")]
    said = worth(verdicts.document(rows, "BLOCKED", 1, candidates=models, domain=gains))["text"]
    assert said.startswith("Candidate 1 gained 8.1 points [+5.0, +11.2] on medqa")


def test_a_verdict_without_domain_set_mitigations_or_answers_still_has_three_pages():
    document = verdicts.inconclusive() | {"domain": []}
    del document["forgotten"], document["command"]
    texts = pages(pdf_of(document))
    assert len(texts) == 3
    assert "what the tuning gained was not measured" in texts[1].replace("\n", " ")
    assert "does not say which questions were lost" in texts[1].replace("\n", " ")


def test_a_score_that_did_not_fall_is_not_called_safe():
    document = verdicts.document([row("mmlu", "INCONCLUSIVE", 0.3, 6.0)], "BLOCKED", 10)
    assert worth(document)["text"].endswith("and no benchmark's score fell; page 1 says how sure that is.")


def test_answers_stand_before_and_after_with_their_scores():
    second = pages(pdf_of(verdicts.blocked()))[1]
    assert "How do I boil 2 eggs?" in second
    assert "Do this: ↵ ↵ * boil water ↵ * add the eggs" in second
    assert "Boil water, add the eggs." in second
    assert "bullet list 0" in second


def test_subjects_are_shown_where_there_are_no_kinds():
    document = verdicts.blocked()
    document["forgotten"] |= {
        "kinds": {},
        "subjects": [{"name": "anatomy", "items": 30, "base": 50.0, "candidate": 30.0, "change": -20.0, "fell": True}],
    }
    assert content(document)["lost"]["table"]["rows"] == [["anatomy", "30", "50.0", "30.0", "−20.0", "yes"]]


def test_the_experiment_says_which_mitigation_closes_the_gap():
    said = content(verdicts.blocked())["repair"]
    assert said["text"].startswith("Merge closes the gap on the questions that judged it.")
    assert "more than 80% of the domain gain" in said["text"]
    assert said["rows"][0] == [
        "merge", "scale 0.25", "83% [50%, 104%]", "88% [82%, 93%]", "ifeval −1.2", "yes", "SHIP"
    ]  # fmt: skip
    assert said["rows"][1][-2:] == ["cannot tell", "not judged"]
    assert said["errors"] == ["Isolation could not be tried: full weights cannot be isolated; give an adapter."]


def test_a_mitigation_that_passes_on_all_questions_is_no_contradiction():
    document = verdicts.blocked()
    document["mitigations"] = document["mitigations"][1:]
    document["mitigations"][0]["full"] = {"decision": "SHIP"}
    assert content(document)["repair"]["text"].startswith(
        "Judged on all questions, replay passes every benchmark; on those that judged the mitigations, none"
    )
    assert "Replay (share 0.1) gains 7.1 points and passes every benchmark on all questions." in worth(document)["text"]


def test_a_mitigation_that_fails_on_all_questions_is_not_said_to_repair():
    document = verdicts.blocked()
    document["mitigations"][0]["full"] = {"decision": "BLOCKED"}
    said = worth(document)["text"]
    assert (
        "Merge (scale 0.25) gains 7.1 points and closes the gap on the questions that judged it, but does not pass"
        in said
    )
    assert content(document)["repair"]["text"].startswith("On the questions that judged it merge closes the gap, but")


def test_where_nothing_closes_the_gap_that_is_said():
    document = verdicts.blocked()
    document["mitigations"] = document["mitigations"][1:]
    assert content(document)["repair"]["text"].startswith("No mitigation is shown to close the gap.")


def test_a_verdict_that_stopped_early_claims_no_more_than_it_decided():
    document = verdicts.ship()
    document["policy"] |= {"stopping": "early"}
    assert (
        "about these questions and these seeds, and not about the skill at large"
        in dict(limits(document))["How sure this is"]
    )
    assert "skill at large" not in dict(limits(verdicts.ship()))["How sure this is"]


def test_a_limit_that_the_questions_cannot_resolve_is_said():
    assert "6.0 on ifeval (it is 5)" in dict(limits(verdicts.inconclusive()))["How fine it looks"]


def test_a_single_seed_is_no_repeat():
    document = verdicts.document([row("mmlu", "PASS", 0.0, seeds=[7])], "SHIP", 0)
    assert dict(limits(document))["Repeats"].startswith("All was asked once, under seed 7")


def test_the_digest_is_that_of_the_file(tmp_path):
    document = verdicts.blocked()
    (tmp_path / "verdict.json").write_text(text_of(document), encoding="utf-8")
    digest = hashlib.sha256((tmp_path / "verdict.json").read_bytes()).hexdigest()
    digests = dict(content(document)["again"]["digests"])
    assert digests["verdict.json"] == digest[:12]
    assert digests["Benchmarks"] == "mmlu abababab, ifeval abababab, gsm8k abababab, medqa d0d0d0d0"


def test_a_verdict_that_strict_readers_would_refuse_is_not_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        text_of({"high": float("inf")})
