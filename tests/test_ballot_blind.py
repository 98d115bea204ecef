"""An adversary looks into the file: nothing but the texts themselves may tell which model wrote what."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from harness.ballot.make import make
from harness.ballot.page import DATA, page, read_page
from harness.ballot.prompts import Pair
from harness.ballot.sheet import seen, sheet
from tests.voting import MODELS, SECRET, key_of, pairs

HEX = re.compile(r"[0-9a-f]{32}")
BLANK = "#"


def secret(n: int) -> bytes:
    return n.to_bytes(2, "big") * 16


def markup(text: str) -> str:
    """A page without its texts."""
    data = json.loads(DATA.search(text).group(1))
    for question in data["questions"]:
        question |= {"prompt": BLANK, "first": BLANK, "second": BLANK}
    return DATA.sub(lambda _: json.dumps(data), text)


def questions(text: str) -> list[str]:
    """The raw text of each question in a page without its texts."""
    return re.findall(r'\{"token".*?\}', DATA.search(text).group(1))


def looked_at(secrets, plant=lambda token, first: token):
    """What an adversary sees of each question besides its texts, and whether the candidate came first.

    Characters of the question's own markup and of the neighbours', its place, the ballot's names and its file's size
    apart from texts. plant: spoils the tokens, to see that the adversary would find something.
    """
    asked = [Pair(f"{n}", BLANK, BLANK) for n in range(50)]
    words, sides = [], []
    for made in secrets:
        key = key_of(asked, made)
        for editor, places in enumerate(key.places, 1):
            text = page(sheet(key, editor, asked))
            for place in places:
                text = text.replace(place.token, plant(place.token, place.candidate_first))
            rows = questions(text)
            assert len(rows) == len(places)
            for n, place in enumerate(places):
                token = json.loads(rows[n])["token"]
                digits = " ".join(f"d{at}{digit}" for at, digit in enumerate(token))
                order = f"place{n} half{2 * n // len(places)} odd{n % 2} editor{editor}"
                beside = f"rises{rows[n] > rows[n - 1]} size{len(rows[n])} of{len(text)} name{key.seal[:2]}"
                words.append(f"{digits} {order} {beside} {rows[n]}")
                sides.append(place.candidate_first)
    features = HashingVectorizer(analyzer="word", token_pattern=r"\S+", n_features=2**12).transform(words)
    return features, np.array(sides)


def accuracy(plant=lambda token, first: token) -> float:
    """Of a classifier trained on some ballots and asked about others, with other secrets."""
    learned, held_out = (
        looked_at([secret(n) for n in range(8)], plant),
        looked_at([secret(n + 100) for n in range(4)], plant),
    )
    fitted = LogisticRegression(C=1.0, max_iter=100).fit(*learned)
    return float((fitted.predict(held_out[0]) == held_out[1]).mean())


def test_a_classifier_on_the_markup_is_at_chance():
    assert accuracy() == pytest.approx(0.5, abs=3.3 * 0.5 / np.sqrt(4 * 3 * 54))


def test_the_classifier_would_find_a_side_that_a_token_tells():
    assert accuracy(lambda token, first: token[:-1] + ("1" if first else "0")) > 0.95


def test_with_both_models_texts_swapped_the_markup_is_the_same():
    asked = pairs()
    swapped = [Pair(pair.prompt, pair.candidate, pair.base) for pair in asked]
    for editor in (1, 2, 3):
        ours, theirs = (markup(page(sheet(key_of(side), editor, side))) for side in (asked, swapped))
        assert ours == theirs


def test_a_page_is_made_of_what_stands_first_and_second_and_of_nothing_else():
    """The same texts in the same places from the other model: only names that the secret keys may differ."""
    asked = pairs()
    swapped = [Pair(pair.prompt, pair.candidate, pair.base) for pair in asked]
    key = key_of(asked)
    turned = [tuple(type(p)(p.token, p.prompt, not p.candidate_first, p.repeat) for p in b) for b in key.places]
    other = type(key)(**{**vars(key), "places": tuple(turned)})
    ours, theirs = page(sheet(key, 1, asked)), page(sheet(other, 1, swapped))
    assert key.seal != other.seal
    assert ours.replace(key.seal, "") == theirs.replace(other.seal, "")


def test_nothing_that_names_a_model_or_opens_the_key_leaves_the_gate(tmp_path):
    asked = pairs()
    key = key_of(asked)
    make(asked, key, tmp_path)
    for path in tmp_path.glob("*.html"):
        text = path.read_text()
        for named in (key.secret, *(value for model in MODELS.values() for value in model.values()), *key.prompts):
            assert named not in text
        assert not re.search("candidate|adapter|dpo|chosen_by|model", markup(text), re.IGNORECASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ballot-1.html",
        "ballot-2.html",
        "ballot-3.html",
        "gate",
    ]
    assert (tmp_path / "gate").stat().st_mode & 0o077 == 0
    assert (tmp_path / "gate" / "key.json").stat().st_mode & 0o077 == 0


def test_what_a_reader_cannot_see_is_made_equal():
    marked = "One\u200b line. \t\r\nAnother\u00a0one.   \r\n\r\n\r\n\r\n  Indented.\n\n"
    assert seen(marked) == seen("One line.\nAnother one.\n\n  Indented.") == "One line.\nAnother one.\n\n  Indented."
    assert seen("می\u200cخواهم") == "می\u200cخواهم", "joiners that a script needs stay"
    assert seen("\n\n   First line is indented.") == "   First line is indented."


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else():
    text = page(sheet(key_of(pairs()), 1, pairs()))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"(?:src|href)=|https?://|@import|url\(", markup(text))
    assert " style=" not in text
    assert " onclick" not in text


def test_hostile_text_ends_no_element_and_comes_back_as_it_was(tmp_path):
    hostile = '</script><script>alert(1)</script><!-- {{script}} \\u003c & "quotes" \u2028'
    asked = [Pair(hostile, hostile, f"{hostile}\n\n    indented"), *pairs(3)]
    path = tmp_path / "ballot.html"
    path.write_text(page(sheet(key_of(asked), 1, asked)), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 2
    shown = [q for q in read_page(path).questions if "alert" in q.prompt]
    assert {q.first for q in shown} | {q.second for q in shown} == {seen(hostile), seen(asked[0].candidate)}
    assert SECRET.hex() not in text
