"""The metering proxy against a real server on loopback: what it forwards, counts, refuses and keeps to itself."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import requests
from openai import APIError, APIStatusError, OpenAI

from harness.metering.__main__ import checked, dollars
from harness.metering.ledger import Ledger, Price, read_prices
from harness.metering.proxy import COMPLETION, Asked, Bill, Serving, Upstream
from harness.specs import Unusable
from tests.upstream import PIECES, upstream

KEY = "sk-of-the-operator"
CENT_A_TOKEN = Price(Decimal(0), Decimal(10_000))
ASK = [{"role": "user", "content": "Does a guest take a seat?"}]


@pytest.fixture
def paid():
    with upstream() as plan:
        yield plan


@pytest.fixture
def metered(paid):
    """(ledger, client) of a proxy before the paid server, at a cent a token of the answer and a budget of a dollar."""
    ledger = Ledger({"paid": CENT_A_TOKEN}, Decimal("1.00"))
    with Serving(Upstream(paid.url, KEY), ledger) as serving:
        yield ledger, OpenAI(base_url=serving.url, api_key="none", max_retries=0)


def ask(client, **options):
    return client.chat.completions.create(**{"model": "paid", "messages": ASK, "max_tokens": 10, **options})


def refusal(client, **options) -> APIStatusError:
    with pytest.raises(APIStatusError) as caught:
        ask(client, **options)
    return caught.value


def test_a_call_is_forwarded_with_the_operators_key_and_counted(paid, metered):
    ledger, client = metered
    assert ask(client).choices[0].message.content == "".join(PIECES)
    path, headers, body = paid.seen[0]
    assert (path, headers["Authorization"], body["max_tokens"]) == ("/v1/chat/completions", f"Bearer {KEY}", 10)
    call = ledger.calls[0]
    assert (call.prompt_tokens, call.completion_tokens, call.cost, call.status) == (20, 6, Decimal("0.06"), 200)
    assert call.measured
    assert call.seconds > 0
    assert (ledger.spent, ledger.held) == (Decimal("0.06"), 0)


def test_a_stream_comes_piece_by_piece_and_its_usage_is_counted_though_nobody_asked(paid, metered):
    ledger, client = metered
    chunks = list(ask(client, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == list(PIECES)  # no event without choices
    assert ledger.spent == Decimal("0.06")


def test_a_caller_who_asks_for_the_usage_of_a_stream_gets_it(metered):
    _, client = metered
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 6


def test_what_may_pass_the_budget_is_refused_and_not_forwarded(paid, metered):
    ledger, client = metered
    error = refusal(client, max_tokens=101)
    assert error.status_code == 402
    assert "the budget of $1.00 has $1.000000 left, and this call may cost $1.010000" in str(error)
    assert paid.seen == []
    assert ledger.summary()["calls"] == {"402": 1}
    ask(client, max_tokens=100)


def test_several_answers_and_no_limit_are_held_at_their_most(paid, metered):
    _, client = metered
    assert refusal(client, n=11).status_code == 402
    assert refusal(client, max_tokens=None).status_code == 402  # it would be COMPLETION tokens
    assert COMPLETION > 100
    assert paid.seen == []


def test_fifty_calls_at_once_never_pass_the_budget_and_the_ledger_adds_up(paid, metered):
    ledger, client = metered
    paid.gate, refused = threading.Event(), threading.Semaphore(0)

    def one(_):
        try:
            return ask(client) and 200
        except APIStatusError as error:
            refused.release()
            return error.status_code

    with ThreadPoolExecutor(50) as pool:
        calls = [pool.submit(one, n) for n in range(50)]
        for _ in range(40):  # while the ten that fit are still under way
            assert refused.acquire(timeout=20)
        assert (ledger.held, ledger.spent) == (Decimal("1.00"), 0)
        paid.gate.set()
        statuses = [call.result() for call in calls]
    assert (statuses.count(200), statuses.count(402), len(paid.seen)) == (10, 40, 10)
    assert ledger.spent == sum(call.cost for call in ledger.calls) == Decimal("0.60") <= ledger.budget
    assert (ledger.held, len(ledger.calls)) == (0, 50)
    summary = ledger.summary()
    assert (summary["cost"], summary["completion_tokens"], summary["calls"]) == (0.6, 60, {"200": 10, "402": 40})


def test_a_dead_upstream_is_a_clear_502_and_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    ledger = Ledger({"paid": CENT_A_TOKEN}, Decimal("1.00"))
    with Serving(Upstream(dead, KEY), ledger) as serving:
        client = OpenAI(base_url=serving.url, api_key="none", max_retries=0)
        error = refusal(client)
        assert error.status_code == 502
        assert "the upstream did not answer" in str(error)
        assert refusal(client).status_code == 502  # and the proxy lives on
    assert (ledger.spent, ledger.held) == (0, 0)


def test_an_upstream_that_is_silent_is_a_502_and_what_it_may_have_computed_counts(paid):
    paid.gate = threading.Event()
    ledger = Ledger({"paid": CENT_A_TOKEN}, Decimal("1.00"))
    with Serving(Upstream(paid.url, KEY, seconds=0.2), ledger) as serving:
        client = OpenAI(base_url=serving.url, api_key="none", max_retries=0)
        assert refusal(client).status_code == 502
        paid.gate.set()
    assert (ledger.spent, ledger.calls[0].measured) == (Decimal("0.10"), False)


def test_a_stream_that_breaks_off_says_so_and_counts_in_full(paid, metered):
    ledger, client = metered
    paid.events = 2
    paid.usage = None
    seen = []
    with pytest.raises(APIError, match="the upstream broke off"):
        seen.extend(chunk.choices[0].delta.content for chunk in ask(client, stream=True))
    assert "".join(seen) == "The guest "
    assert (ledger.spent, ledger.calls[0].measured) == (Decimal("0.10"), False)


@pytest.mark.parametrize("status", [401, 429, 500])
def test_an_error_of_the_upstream_passes_without_the_key_and_costs_nothing(paid, metered, status):
    ledger, client = metered
    paid.status = status
    error = refusal(client)
    assert error.status_code == status
    assert KEY not in json.dumps(error.body) + str(error.response.headers)
    assert "[key]" in str(error)
    assert ledger.spent == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no json", "is no JSON"),
        (b'{"model": "other"}', "the model 'other' has no price here; ask for one of paid."),
        (b'{"model": "paid", "max_tokens": -5}', "max_tokens is -5"),
        (b'{"model": "paid", "n": true}', "n is True"),
        (
            b'{"model": "paid", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            "a message holds more than text; send text alone.",
        ),
    ],
)
def test_what_cannot_be_priced_is_not_forwarded(paid, metered, body, said):
    _, client = metered
    answer = requests.post(f"{client.base_url}chat/completions", data=body, timeout=10)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert paid.seen == []


def test_each_of_several_prompts_is_held_at_its_most(paid, metered):
    _, client = metered
    with pytest.raises(APIStatusError) as caught:
        client.completions.create(model="paid", prompt=["one"] * 11, max_tokens=10)
    assert caught.value.status_code == 402
    assert paid.seen == []


def test_a_count_that_is_none_leaves_the_call_at_its_most():
    ledger = Ledger({"paid": CENT_A_TOKEN}, Decimal("1.00"))
    bill = Bill(ledger, Asked({"model": "paid"}, 0, 10, False))
    for usage in ({}, {"input_tokens": 1, "output_tokens": 2}, {"prompt_tokens": 1}, None):
        bill.count(usage)
    bill.close()
    assert ledger.spent == Decimal("0.10")


def test_other_paths_are_not_forwarded(paid, metered):
    _, client = metered
    assert requests.post(f"{client.base_url}files", data=b"x", timeout=10).status_code == 404
    assert [model.id for model in client.models.list()] == ["paid"]
    assert paid.seen == []


def test_the_key_is_in_no_text_of_the_upstream():
    assert KEY not in repr(Upstream("http://host/v1", KEY))


def test_prices_are_dollars_for_a_million_tokens(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('["org/model"]\nprompt = "0.15"\ncompletion = "0.60"\n')
    assert read_prices(path)["org/model"].of(1_000_000, 500_000) == Decimal("0.45")


@pytest.mark.parametrize(
    "text", ["", "x = 1", '[m]\nprompt = "a"\ncompletion = "1"', "[m]\nprompt = -1\ncompletion = 1"]
)
def test_prices_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(Unusable, match="prices"):
        read_prices(path)


def test_options_of_the_operator_are_checked():
    assert dollars("3.00") == Decimal("3.00")
    for wrong in ("three", "-1", "NaN", "Infinity"):
        with pytest.raises(Unusable, match="is no amount"):
            dollars(wrong)
    with pytest.raises(Unusable, match="is no address"):
        checked("host/v1", "k")
    with pytest.raises(Unusable, match="UPSTREAM_API_KEY"):
        checked("http://host/v1", None)
