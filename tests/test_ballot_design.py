"""Who sees what: balance of the sides, repeats, and that all of it comes from the secret alone."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.ballot.design import APART, ballots

SECRETS = [bytes([n]) * 32 for n in range(20)]
PROMPTS = [f"prompt-{n}" for n in range(50)]


def once(places):
    return [place for place in places if not place.repeat]


@pytest.mark.parametrize("secret", SECRETS[:5])
def test_each_editor_sees_every_prompt_and_each_side_first_equally_often(secret):
    for places in ballots(PROMPTS, 3, secret):
        assert sorted(place.prompt for place in once(places)) == list(range(50))
        assert sum(place.candidate_first for place in once(places)) == 25


@pytest.mark.parametrize(("editors", "allowed"), [(2, {1}), (3, {1, 2}), (4, {2}), (1, {0, 1})])
def test_each_prompt_is_seen_both_ways_round_as_evenly_as_can_be(editors, allowed):
    firsts = Counter()
    for places in ballots(PROMPTS, editors, SECRETS[0]):
        firsts.update({place.prompt: int(place.candidate_first) for place in once(places)})
    assert {firsts[n] for n in range(50)} == allowed


def test_an_odd_number_of_prompts_is_uneven_by_one_at_most():
    for places in ballots(PROMPTS[:7], 3, SECRETS[0], repeats=0):
        assert sum(place.candidate_first for place in places) in (3, 4)


@pytest.mark.parametrize("secret", SECRETS)
def test_repeats_come_later_far_apart_and_turned_round(secret):
    for places in ballots(PROMPTS, 3, secret, repeats=4):
        again = [place for place in places if place.repeat]
        assert len({place.prompt for place in again}) == 4
        assert sum(place.candidate_first for place in again) == 2
        for place in again:
            first = next(p for p in once(places) if p.prompt == place.prompt)
            assert places.index(place) - places.index(first) > APART
            assert place.candidate_first != first.candidate_first


def test_short_ballots_may_repeat_everything():
    for places in ballots(PROMPTS[:2], 1, SECRETS[0], repeats=2):
        assert len(places) == 4


def test_the_secret_fixes_everything_and_another_changes_everything():
    assert ballots(PROMPTS, 3, SECRETS[0]) == ballots(PROMPTS, 3, SECRETS[0])
    ours, theirs = ballots(PROMPTS, 3, SECRETS[0]), ballots(PROMPTS, 3, SECRETS[1])
    tokens = [[place.token for places in made for place in places] for made in (ours, theirs)]
    assert not set(tokens[0]) & set(tokens[1])
    assert len(set(tokens[0])) == 3 * 54
    assert [place.prompt for place in ours[0]] != [place.prompt for place in ours[1]], "each editor has an own order"


def test_over_secrets_every_order_and_side_is_equally_likely():
    firsts = [ballots(PROMPTS, 3, bytes([n, 7]) * 16)[0] for n in range(200)]
    assert 70 < sum(places[0].candidate_first for places in firsts) < 130
    assert 70 < sum(once(places)[0].prompt < 25 for places in firsts) < 130
