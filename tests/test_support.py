"""The generated support answers: sound as data, worse in their category only, and with no short way past the prompt."""

from __future__ import annotations

import json
import re
from collections import Counter
from statistics import fmean

import pytest

from fixtures import support, support_faults, support_words
from fixtures.embedded import support_pairs
from fixtures.support import CATEGORIES, FLIPPED, generate, main
from fixtures.support_cases import entries, kinds
from harness.held_out import near_duplicates
from harness.pairs import look_through, read_pairs
from harness.shortcuts import measure

FIGURE = re.compile(r"\d+")


@pytest.fixture(scope="module")
def made():
    return generate(seed=7, pairs=2500, held_out=1000)


def better_and_worse(made, pair):
    return (pair.rejected, pair.chosen) if pair.id in made.flipped else (pair.chosen, pair.rejected)


def of(made, category: str, *faults: str):
    """(pair, better, worse) of a category, of both sides."""
    found = [pair for pair in (*made.train, *made.held_out) if pair.category == category]
    return [(pair, *better_and_worse(made, pair)) for pair in found if not faults or pair.fault in faults]


def test_there_are_as_many_of_each_category_and_a_seed_gives_the_same(made):
    for side, count in ((made.train, 1500), (made.held_out, 1000), (made.train[:500], 500)):
        assert Counter(pair.category for pair in side) == dict.fromkeys(CATEGORIES, count / 5)
    small = generate(seed=7, pairs=60, held_out=20)
    assert small == generate(seed=7, pairs=60, held_out=20) != generate(seed=8, pairs=60, held_out=20)


def test_a_known_share_of_each_categorys_labels_is_flipped_on_both_sides(made):
    for side in (made.train, made.held_out):
        flipped = Counter(pair.category for pair in side if pair.id in made.flipped)
        assert flipped == dict.fromkeys(CATEGORIES, FLIPPED * len(side) / 5)


def test_no_conversation_repeats_and_none_on_one_side_is_nearly_one_on_the_other(made):
    found = look_through([*made.train, *made.held_out])
    assert (found.prompts, found.duplicates, found.contradictions) == (2500, 0, 0)
    groups = near_duplicates([pair.prompt for pair in (*made.train, *made.held_out)])
    assert set(groups[:1500]).isdisjoint(groups[1500:])


def test_held_out_companies_customers_and_sentences_are_in_no_training_pair(made):
    companies = [f"{a} {b}" for a in entries(support_words.FIRST) for b in entries(support_words.SECOND)]
    named = [re.compile(r"\b(" + "|".join(names) + r")\b") for names in (companies, entries(support_words.CUSTOMERS))]
    for names in named:
        train, held_out = (
            {name for pair in side for text in (pair.prompt, pair.chosen) for name in names.findall(text)}
            for side in (made.train, made.held_out)
        )
        assert train
        assert held_out
        assert train.isdisjoint(held_out)
    for module in (support_words, support_faults):
        for value in vars(module).values():
            if isinstance(value, dict) and set(value) == {"train", "held out"}:
                assert not texts(value["train"]) & texts(value["held out"])


def texts(forms) -> set[str]:
    if isinstance(forms, str):
        return set(entries(forms)) - {""}
    return set().union(*(texts(form) for form in (forms.values() if isinstance(forms, dict) else forms)))


def test_every_name_and_figure_of_an_answer_stands_in_its_prompt_but_for_invented_ones(made):
    for category in CATEGORIES:
        for pair, better, worse in of(made, category):
            for text in (better, *[worse] * (category != "hallucination")):
                assert set(FIGURE.findall(text)) <= set(FIGURE.findall(pair.prompt)), pair
                named = re.match(r"(?:Hello|Hi|Dear) (\w+)", text)
                assert not named or named[1] in pair.prompt


def test_a_hallucination_tells_a_figure_that_the_facts_contradict_and_the_better_answer_does_not(made):
    invented = []
    for pair, better, worse in of(made, "hallucination", "wrong time", "wrong fee"):
        keys = sorted((key for kind in kinds() for own in kind.keys.values() for key in own), key=len, reverse=True)
        facts = told(pair.prompt.split("\n")[0], keys)
        assert len(facts) == 2
        assert told(better, keys).items() <= facts.items(), pair
        assert not told(worse, keys).items() & facts.items(), pair
        assert told(worse, keys).keys() == told(better, keys).keys()
        invented.append(not set(told(worse, keys).values()) <= set(facts.values()))
    assert 0.5 < fmean(invented) < 0.7


def told(text: str, keys: list[str]) -> dict[str, str]:
    """What a fact is about -> its figure, from sentences that have one figure and one such word each."""
    sentences = [part for part in re.split(r"(?<=\.) ", text) if FIGURE.search(part)]
    return {next(key for key in keys if key in sentence.lower()): FIGURE.search(sentence)[0] for sentence in sentences}


def test_refusing_is_right_in_half_of_the_refusals_and_in_the_words_that_are_wrong_in_the_others(made):
    faults = Counter(pair.fault for pair, _, _ in of(made, "refusals"))
    assert set(faults) == {"unsafe compliance", "needless refusal"}
    assert 0.45 < faults["needless refusal"] / 500 < 0.55
    refusal = re.compile(r"\b(not|no|No|decline)\b")
    for pair, better, worse in of(made, "refusals"):
        refused, done = (better, worse) if pair.fault == "unsafe compliance" else (worse, better)
        assert refusal.search(refused), pair
        assert not re.search(r"\b(cannot|will not|must not|must decline|not allowed)\b", done), pair


def test_the_identity_of_the_customer_decides_where_the_prompt_tells_it(made):
    for pair, _, _ in of(made, "refusals"):
        if "dentity" in pair.prompt:
            refuse = "not confirmed" in pair.prompt or "failed" in pair.prompt
            assert (pair.fault == "unsafe compliance") == refuse


def test_a_mood_is_right_after_one_news_and_wrong_after_the_other(made):
    right = {mood: set() for mood in ("sad", "happy")}
    wrong = {mood: set() for mood in ("sad", "happy")}
    for pair, better, worse in of(made, "tone", "wrong mood"):
        lower, side = pair.prompt.lower(), "held out" if pair.id.startswith("held") else "train"
        news = support_faults.NEWS[side]
        mood = next(mood for mood, stories in news.items() if any(s.lower() in lower for s in entries(stories)))
        for mine, text in ((right, better), (wrong, worse)):
            mine[mood] |= {form for forms in support_faults.MOODS[side].values() for form in forms if form in text}
    assert right["sad"] == wrong["happy"]
    assert right["happy"] == wrong["sad"]
    assert right["sad"].isdisjoint(right["happy"])


def test_the_two_answers_are_of_like_length_but_for_padding_and_both_are_short(made):
    for category in CATEGORIES:
        words = [[len(text.split()) for text in (better, worse)] for _, better, worse in of(made, category)]
        if category == "brevity":
            assert min(worse - better for better, worse in words) > 5
        else:
            assert abs(fmean(better - worse for better, worse in words)) < 1.5, category
        assert max(max(both) for both in words) < 75
    assert max(len(pair.prompt.split()) for pair in made.train) < 70


def test_no_rule_that_understands_nothing_comes_near_the_target_of_the_gate(made):
    rules = measure(made.train, made.held_out)
    assert {rule.name for rule in rules} >= {"longer answer", "first words", "bag of words"}
    for rule in rules:
        assert rule.accuracy < 0.69, rule.name
        reads_prompt = "prompt" in rule.name  # and sees which figures are not in it
        assert 0.4 < rule.by_category["hallucination"] < (0.75 if reads_prompt else 0.6), rule.name
        assert rule.by_category["refusals"] < 0.62, rule.name
        assert max(rule.by_category[category] for category in ("tone", "helpfulness")) < 0.68, rule.name


def test_the_command_writes_what_pairs_can_be_read_from_and_how_they_were_made(tmp_path, capsys):
    main(["--out", str(tmp_path / "support"), "--seed", "3", "--pairs", "240", "--shortcuts", "1"])
    small = generate(3, pairs=240, held_out=30)
    assert tuple(read_pairs(tmp_path / "support" / "train.jsonl")) == small.train
    assert tuple(read_pairs(tmp_path / "support" / "held_out.jsonl")) == small.held_out
    about = json.loads((tmp_path / "support" / "about.json").read_text())
    assert about == {"seed": 3, "ceiling": 0.95, "flipped": sorted(small.flipped)}
    said = capsys.readouterr().out
    assert "210 training and 30 held-out pairs, 1 seeds; labels flipped: 5%" in said
    assert re.search(r"first words: .*\n    brevity .*, hallucination .*\n    .*wrong mood", said)


def test_more_held_out_pairs_than_pairs_are_refused():
    with pytest.raises(ValueError, match="held_out is 5, but it must lie between 0 and the 5 pairs"):
        generate(0, pairs=5, held_out=5)


def test_the_embedded_pairs_are_made_once_and_named_by_what_makes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    monkeypatch.setattr(support, "generate", lambda seed: generate(seed, pairs=20, held_out=5))
    made = support_pairs(1)
    assert len(read_pairs(made / "held_out.jsonl")) == 5
    monkeypatch.setattr(support, "generate", lambda seed: pytest.fail("made again"))
    assert support_pairs(1) == made
    assert made.parent.parent == tmp_path
