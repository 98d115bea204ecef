"""The challenge's own data: complete, true to the facts page, and with no wording in two splits."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations

import pytest

from fixtures.ticket_data import FACTS, HIDDEN, PARAPHRASES, TAXONOMY, TRAIN, VALIDATION
from harness.specs import Unusable
from harness.submission.judge import Asked
from harness.submission.mentions import holds, missing, wrong
from harness.submission.offline_judge import OfflineJudge
from harness.submission.tickets import Taxonomy, read_hidden, read_taxonomy, read_tickets, read_training

SHARED = 5  # words in a row that no two splits have in common
SHORT = {"yes", "no", "i am sorry about that"}  # which open a reply and say nothing
FIGURE = re.compile(r"\$?\d+(?:,\d{3})*%?")
PLACE = re.compile(r"(?:Settings|Share|Page menu)(?: > [A-Z][\w-]*(?: [a-z][\w-]*)*)+")


@pytest.fixture(scope="module")
def taxonomy():
    return read_taxonomy(TAXONOMY)


@pytest.fixture(scope="module")
def splits(taxonomy):
    """The rows of each split as {"ticket", "ideal_reply"}; validation rows have no reply."""
    hidden = [{"ticket": row.ticket, "ideal_reply": row.ideal_reply} for row in read_hidden(HIDDEN, taxonomy)]
    return {
        "train": read_training(TRAIN, taxonomy),
        "paraphrases": read_tickets(PARAPHRASES),
        "validation": read_tickets(VALIDATION),
        "hidden": hidden,
    }


@pytest.fixture(scope="module")
def hidden(taxonomy):
    return read_hidden(HIDDEN, taxonomy)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    said = words(text)
    return {tuple(said[n : n + length]) for n in range(len(said) - length + 1)}


def test_each_split_has_the_rows_that_the_contract_names(splits, hidden, taxonomy):
    assert [len(splits[name]) for name in ("train", "validation", "hidden")] == [30, 10, 50]
    assert Counter(row.kind for row in hidden) == {"ordinary": 35, "probe": 15}
    assert len(taxonomy.names) == len(set(taxonomy.names)) >= 20


def test_every_intent_is_trained_and_asked(splits, hidden, taxonomy):
    assert {row["intent"] for row in splits["train"]} == set(taxonomy.names)
    assert {row.intent for row in hidden} == set(taxonomy.names)


def test_no_intent_fills_the_hidden_rows(hidden):
    assert max(Counter(row.intent for row in hidden).values()) <= 4  # who always answers one intent has at most 8%


def test_no_wording_of_a_ticket_stands_in_two_splits(splits):
    found = {name: set().union(*(runs(row["ticket"], SHARED) for row in rows)) for name, rows in splits.items()}
    for one, other in combinations(found, 2):
        assert not found[one] & found[other], (one, other)


@pytest.mark.embedded
def test_no_paraphrase_means_what_a_hidden_ticket_means_more_than_a_training_row_does(splits):
    """The hidden rows and the paraphrases have one author, who had the same ideas twice; those were left out."""
    judge = OfflineJudge()

    def nearest(split: str) -> float:
        asked = [Asked("", row["ticket"], hid["ticket"]) for row in splits[split] for hid in splits["hidden"]]
        return max(judge.scores(asked))

    assert nearest("paraphrases") <= nearest("train")


def test_no_sentence_of_a_reply_stands_in_two_splits(splits):
    """Phrases may: both name the places and figures of one facts page."""
    said = [
        {" ".join(words(part)) for row in splits[name] for part in re.split(r"[.:;?!] ", row["ideal_reply"])} - SHORT
        for name in ("train", "hidden")
    ]
    assert not said[0] & said[1]


def test_no_ticket_stands_twice(splits):
    said = Counter(" ".join(words(row["ticket"])) for rows in splits.values() for row in rows)
    assert max(said.values()) == 1


def test_ordinary_rows_and_probes_share_no_wording(hidden):
    kinds = [
        set().union(*(runs(row.ticket, SHARED) for row in hidden if row.kind == kind)) for kind in ("ordinary", "probe")
    ]
    assert not kinds[0] & kinds[1]


def test_every_figure_of_a_reply_stands_on_the_facts_page(splits):
    facts, asked = set(FIGURE.findall(FACTS.read_text())), {"1,620", "$1,620"}  # 9 seats of $180
    for rows in splits.values():
        for row in rows:
            given = set(FIGURE.findall(row["ticket"]))  # "6 digit code", "the 12th": the customer's own figures
            assert set(FIGURE.findall(row.get("ideal_reply", ""))) <= facts | given | asked, row["ticket"]


def test_every_place_that_a_reply_names_stands_on_the_facts_page(splits):
    facts = FACTS.read_text().replace("\n  ", " ")
    for rows in splits.values():
        for row in rows:
            for place in PLACE.findall(row.get("ideal_reply", "")):
                assert place_known(place, facts), place


def place_known(place: str, facts: str) -> bool:
    """True if the page names the place; words of the sentence may follow it ('Settings > Billing and download')."""
    said = place.split(" ")
    last = len(said) - said[::-1].index(">")
    return any(" ".join(said[:n]) in facts for n in range(len(said), last, -1))


def test_ideal_replies_hold_what_a_reply_must_and_nothing_that_it_must_not(hidden):
    for row in hidden:
        assert row.must, row.id
        assert row.must_not, row.id
        assert (missing(row.ideal_reply, row.must), wrong(row.ideal_reply, row.must_not)) == ([], []), row.id


def test_places_that_a_reply_must_name_stand_on_the_facts_page(hidden):
    facts = FACTS.read_text()
    named = [phrase for row in hidden for entry in row.must for phrase in entry.split("|") if " > " in phrase]
    assert len(named) > 10
    assert all(phrase in facts for phrase in named)


def test_a_synonym_is_its_intent_and_nothing_else_is(taxonomy):
    assert (
        taxonomy.canonical(" Billing.Seats ") == taxonomy.canonical("billing.seat_question") == "billing.seat_question"
    )
    assert taxonomy.canonical("billing") is None


def test_a_phrase_is_found_by_whole_words_in_any_case():
    assert holds("It takes UP to\n24 hours.", "up to 24 hours")
    assert holds("We charge by the day.", "pro rata|by the day")
    assert not holds("a single file of 250 MB", "50 MB")
    assert holds("Only $90 a year", "$90")
    assert holds("Ask the Owners.", "Owner")
    assert not holds("Only $900 a year", "$90")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "a", "ticket": "t", "intent": "billing.seat_question"}, "line 1 is no"),
        ({"id": "a", "ticket": " ", "intent": "billing.seat_question", "ideal_reply": "r"}, "line 1 is no"),
        ({"id": "a", "ticket": "t", "intent": "billing.other", "ideal_reply": "r"}, "which the taxonomy lacks"),
    ],
)
def test_rows_that_are_none_are_named(tmp_path, taxonomy, line, said):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(Unusable, match=said):
        read_training(path, taxonomy)


def test_an_id_that_stands_twice_is_named(tmp_path):
    path = tmp_path / "val.jsonl"
    path.write_text('{"id": "a", "ticket": "t"}\n' * 2)
    with pytest.raises(Unusable, match="line 2 repeats the id 'a'"):
        read_tickets(path)


def test_a_spelling_of_two_intents_is_refused(taxonomy):
    one, two = taxonomy.intents[:2]
    with pytest.raises(Unusable, match=f"stands for both {one.name} and {two.name}"):
        Taxonomy([one, type(two)(two.name, two.description, one.synonyms)])
