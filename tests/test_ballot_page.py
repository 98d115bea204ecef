"""A ballot filled in in a real browser, by keys and mouse, and judged: `make page`, as it needs Chromium."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.ballot.judge import judge
from harness.ballot.key import Key
from harness.ballot.make import make
from harness.ballot.prompts import Pair
from harness.ballot.votes import FIRST, SECOND, TIE, read_votes
from tests.browser import Browser
from tests.voting import hand_back, key_of, planted

pytestmark = pytest.mark.page

ATTACK = '<img src=x onerror="alert(1)"><script>alert(2)</script></script><b>'
TYPED = 'Names a date: "June" \\ é 東 🙂 \u2028\nsecond line </script>'
KEYS = {FIRST: ("1", "ArrowLeft"), SECOND: ("2", "ArrowRight"), TIE: ("0", "=")}


@pytest.fixture
def asked() -> list[Pair]:
    long = "A sentence that goes on. " * 40
    pairs = [Pair(f"Task {n}.", f"Plain {n}.\n\n  Indented.", f"Better {n}.") for n in range(8)]
    return [Pair(ATTACK, ATTACK, f"{ATTACK} and more"), Pair("Long.", long, "W" * 300), *pairs]


@pytest.fixture
def key(asked, tmp_path) -> Key:
    key = key_of(asked, repeats=2)
    make(asked, key, tmp_path)
    return key


@pytest.fixture
def ballot(key, tmp_path) -> str:
    return (tmp_path / "ballot-1.html").as_uri()


def at(browser: Browser) -> str:
    return browser.text("#count")


def test_a_ballot_is_filled_in_saved_and_judged(key, asked, ballot, tmp_path):
    wanted = planted(key, 3)[1].choices
    places = key.places[0]
    votes = tmp_path / "votes"
    votes.mkdir()
    with Browser() as browser:
        browser.open(ballot)
        browser.press("Enter")  # begins
        for n, place in enumerate(places):
            assert at(browser) == f"{n + 1} of {len(places)}"
            browser.press("Enter")
            assert at(browser) == f"{n + 1} of {len(places)}", "no choice, no next task"
            choice = wanted[place.token]
            if n % 3 == 0:
                browser.click(f"#choose{choice}")
            elif n % 3 == 1 and choice != TIE:
                browser.click(f"#card{choice}")
            else:
                browser.press(KEYS[choice][n % 2])
            if n == 4:
                browser.press("c")
                browser.write(TYPED)
                browser.press("1")  # a digit in a comment is no vote
                browser.press("Escape")
            if n == 6:
                browser.reload()  # in the middle: the vote of this task is kept, and the next open one comes up
                assert at(browser) == f"{n + 2} of {len(places)}"
                continue
            if n == 8:
                browser.press("Backspace")
                assert at(browser) == f"{n} of {len(places)}"
                browser.press("Enter")
            browser.click("#next") if n % 2 else browser.press("Enter")
        assert "That was all" in browser.text("#end")
        browser.open("about:blank")  # closed and opened again: everything is there
        browser.open(ballot)
        assert "That was all" in browser.text("#end")
        browser.save("#save", votes)
        assert browser.text("#saved").startswith("Saved")
        assert browser.dialogs == []
        assert {address for address in browser.requests if not address.startswith(("blob:", "about:"))} == {ballot}
    assert [path.name for path in votes.iterdir()] == ["votes-1.json"]
    found = read_votes(votes, key)[1]
    assert found.choices == wanted
    assert found.comments == {places[4].token: TYPED + "1"}
    assert judge(key, {1: found}, "key.json").reason.startswith("2 of 3 editors have not voted")
    others = {editor: cast for editor, cast in planted(key, 3).items() if editor != 1}
    hand_back(votes, key, asked, others)
    judged = judge(key, read_votes(votes, key), "key.json")
    assert judged.win == judge(key, planted(key, 3), "key.json").win


def test_hostile_text_shows_as_text_and_paragraphs_stay(key, asked, ballot):
    with Browser() as browser:
        browser.open(ballot)
        seen = {}
        for n, place in enumerate(key.places[0]):
            browser.run(f"show({n})")
            seen[place.prompt] = [browser.text(part) for part in ("#prompt", "#first", "#second")]
        assert seen[0][0] == ATTACK
        assert set(seen[0][1:]) == {ATTACK, f"{ATTACK} and more"}
        assert "Plain 3.\n\n  Indented." in seen[5]
        assert browser.run("document.querySelectorAll('main script, main img, main b').length") == 0
        assert browser.dialogs == []
        stopped = "new Promise(done => { addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        assert browser.run(stopped + " fetch('https://example.org').catch(() => 0) })") == "connect-src"
        script = "const s = document.createElement('script'); s.textContent = 'ran = 1'; document.body.append(s)"
        assert browser.run(f"(() => {{ {script}; return window.ran || 'blocked' }})()") == "blocked"


@pytest.mark.parametrize("size", [(1280, 900), (360, 640)])
@pytest.mark.parametrize("shade", ["light", "dark"])
def test_it_fits_narrow_and_wide_screens_in_light_and_dark(key, ballot, size, shade):
    with Browser() as browser:
        browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": shade}])
        browser.ask(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        browser.open(ballot)
        for page in ("open('start')", "show(0)", f"show({[p.prompt for p in key.places[0]].index(1)})", "finish()"):
            browser.run(page)
            assert browser.run("document.documentElement.scrollWidth") <= size[0], page
        browser.run("show(0)")
        side = browser.run("at('card2').getBoundingClientRect().x > at('card1').getBoundingClientRect().right")
        assert side == (size[0] > 760)
        low = browser.run("at('next').getBoundingClientRect().bottom")
        assert low <= size[1], "the buttons are in sight"
        paper = browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
        assert (paper < 80) == (shade == "dark")


def test_two_windows_of_one_ballot_lose_no_vote(key, ballot):
    with Browser() as browser:
        browser.open(ballot)
        other = f"localStorage.setItem(SHELF + questions[1].token, {json.dumps(json.dumps({'choice': 2}))})"
        browser.run(other)  # as another window writes it
        browser.run("show(0)")
        browser.press("1")
        assert browser.run("[0, 1].map(n => voteOn(n).choice)") == [1, 2]


def test_the_pages_check_value_is_that_of_the_gate(ballot):
    import hashlib

    with Browser() as browser:
        browser.open(ballot)
        for text in ("", "abc", "é東🙂", "x" * 55, "x" * 56, "x" * 64, "y" * 1000):
            assert browser.run(f"sha256({json.dumps(text)})") == hashlib.sha256(text.encode()).hexdigest()


def test_another_ballot_in_the_same_browser_starts_empty(key, ballot, tmp_path):
    with Browser() as browser:
        browser.open(ballot)
        browser.click("#begin")
        browser.press("1")
        browser.open(Path(tmp_path / "ballot-2.html").as_uri())
        assert at(browser) == f"0 of {len(key.places[1])}"
        browser.open(ballot)
        assert at(browser) == f"2 of {len(key.places[0])}"
