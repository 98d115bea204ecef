"""The generated grant pairs: sound as data, and with no short way past the prompt."""

from __future__ import annotations

import json
import re
from collections import Counter
from statistics import fmean

import pytest

from fixtures import grant_words, grants
from fixtures.embedded import grant_pairs
from fixtures.grants import FLIPPED, INVENTED, SHARES, STALE, VISIBLE, generate, main
from harness.held_out import near_duplicates
from harness.pairs import look_through, read_pairs
from harness.shortcuts import measure


@pytest.fixture(scope="module")
def made():
    return generate(seed=7)


def better_and_worse(made, pair):
    return (pair.rejected, pair.chosen) if pair.id in made.flipped else (pair.chosen, pair.rejected)


def test_there_are_as_many_as_said_and_a_seed_gives_the_same(made):
    assert (len(made.train), len(made.held_out)) == (2200, 300)
    assert generate(seed=7, pairs=40, held_out=10) == generate(seed=7, pairs=40, held_out=10)
    assert generate(seed=7, pairs=40, held_out=10) != generate(seed=8, pairs=40, held_out=10)


def test_a_known_share_of_labels_is_flipped_on_both_sides(made):
    for side in (made.train, made.held_out):
        assert sum(pair.id in made.flipped for pair in side) == FLIPPED * len(side)


def test_no_pair_repeats_or_contradicts_another_and_no_prompt_nearly_repeats_one(made):
    every = [*made.train, *made.held_out]
    found = look_through(every)
    assert (found.prompts, found.duplicates, found.contradictions) == (2500, 0, 0)
    assert len(set(near_duplicates([pair.prompt for pair in every]))) == 2500


def test_held_out_organisations_and_sentences_are_in_no_training_pair(made):
    first, second, place = (
        "|".join(re.findall(r"[A-Z]\w+", getattr(grant_words, n))) for n in ("FIRST", "SECOND", "PLACES")
    )

    def organisations(pairs):
        named = [re.search(rf"(?:{first}) (?:{second})", pair.prompt)[0] for pair in pairs]
        placed = [re.search(rf"(?:{place})(?=[.,)]| and)", pair.prompt)[0] for pair in pairs]
        return set(zip(named, placed, strict=True))

    train, held_out = organisations(made.train), organisations(made.held_out)
    assert len(train) + len(held_out) == 2500
    assert train.isdisjoint(held_out)
    for part, forms in grant_words.SENTENCES["train"].items():
        assert set(forms).isdisjoint(grant_words.SENTENCES["held out"][part])


def test_the_better_paragraph_tells_this_years_facts_and_no_other(made):
    for pair in made.held_out:
        better, worse = better_and_worse(made, pair)
        now, before = years(pair.prompt)
        assert figures(better) <= figures(now), pair
        if pair.fault in ("old number", "old sum", "old result"):
            stray = figures(worse) - figures(better)
            assert len(stray) == 1
            assert stray <= figures(before)
        if pair.fault == "invented figure":
            stray = figures(worse) - figures(better)
            assert len(stray) in (1, 2)
            assert stray.isdisjoint(figures(pair.prompt))


def figures(text: str) -> set[str]:
    return set(re.findall(r"£?\d+(?:,\d+)*(?: in 10)?", text))


def years(prompt: str) -> tuple[str, str]:
    """The parts of a prompt on this year and on the year before."""
    known = {label for pair in grant_words.YEARS for label in pair}
    labels = [(label, at) for label in known if (at := prompt.find(label + ":")) >= 0]
    (first, at), (second, middle) = sorted(labels, key=lambda found: found[1])
    parts = {first: prompt[at:middle], second: prompt[middle:]}
    now, before = next(pair for pair in grant_words.YEARS if set(pair) == {first, second})
    return parts[now], parts[before]


def test_either_year_comes_first_and_either_may_have_the_larger_figures(made):
    first = Counter(
        pair.prompt.find(years(pair.prompt)[0]) < pair.prompt.find(years(pair.prompt)[1]) for pair in made.train
    )
    assert 0.45 < first[True] / 2200 < 0.55
    sums = [[int(re.search(r"£([\d,]+)", year)[1].replace(",", "")) for year in years(p.prompt)] for p in made.train]
    assert 0.45 < fmean(now > before for now, before in sums) < 0.55


def test_most_faults_show_only_beside_the_prompt(made):
    faults = Counter(pair.fault for pair in made.train)
    named = {"visible": VISIBLE, "invented": tuple(INVENTED), "stale": (*STALE, "two facts")}
    assert set(faults) == {fault for names in named.values() for fault in names}
    for source, names in named.items():
        assert abs(sum(faults[fault] for fault in names) / 2200 - SHARES[source]) < 0.03
    assert SHARES["visible"] < 0.5
    assert min(faults.values()) > 50


def test_paragraphs_of_a_pair_are_of_like_length(made):
    words = [[len(text.split()) for text in better_and_worse(made, pair)] for pair in made.train]
    assert abs(fmean(better - worse for better, worse in words)) < 0.5
    assert fmean(abs(better - worse) for better, worse in words) < 3


def test_no_rule_that_does_not_read_the_prompt_comes_near_the_target_of_the_gate(made):
    found = {rule.name: rule.accuracy for rule in measure(made.train, made.held_out)}
    assert 0.42 < found["longer answer"] < 0.58
    assert found.pop("bag of words, overlap with the prompt, length") < 0.71
    assert all(accuracy < 0.65 for accuracy in found.values()), found


def test_the_command_writes_what_pairs_can_be_read_from_and_how_they_were_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grants, "generate", lambda seed: generate(seed, pairs=60, held_out=20))
    main(["--out", str(tmp_path / "grants"), "--seed", "3", "--shortcuts", "2"])
    small = generate(3, pairs=60, held_out=20)
    assert tuple(read_pairs(tmp_path / "grants" / "train.jsonl")) == small.train
    assert tuple(read_pairs(tmp_path / "grants" / "held_out.jsonl")) == small.held_out
    about = json.loads((tmp_path / "grants" / "about.json").read_text())
    assert about == {"seed": 3, "ceiling": 0.95, "flipped": sorted(small.flipped)}
    said = capsys.readouterr().out
    assert "20 held-out pairs, 2 seeds; labels flipped: 5%" in said
    assert "longer answer: " in said


def test_more_held_out_pairs_than_pairs_are_refused():
    with pytest.raises(ValueError, match="held_out is 5, but it must lie between 0 and the 5 pairs"):
        generate(0, pairs=5, held_out=5)


def test_the_embedded_pairs_are_made_once_and_named_by_what_makes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("LETHE_CACHE", str(tmp_path))
    monkeypatch.setattr(grants, "generate", lambda seed: generate(seed, pairs=20, held_out=5))
    made = grant_pairs(1)
    assert len(read_pairs(made / "held_out.jsonl")) == 5
    monkeypatch.setattr(grants, "generate", lambda seed: pytest.fail("made again"))
    assert grant_pairs(1) == made
    assert made.parent.parent == tmp_path
