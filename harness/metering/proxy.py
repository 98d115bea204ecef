"""An OpenAI-compatible proxy that counts and prices every call and stops them at a budget.

    submission  ->  proxy (no key, budget)  ->  the operator's upstream (the operator's key)

It answers POST /v1/chat/completions and /v1/completions, and GET /v1/models with the models that have a price. What the
caller sends as a key is dropped, and the operator's never comes back: not in a header, not in an error of the upstream.
402 says that the budget might be passed, and nothing was forwarded; 502 that the upstream did not answer.

    python -m harness.metering --upstream URL --prices FILE [--budget 3.00]
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
from aiohttp import web

from harness.metering.ledger import Call, Ledger, OverBudget

PATHS = ("/v1/chat/completions", "/v1/completions")
COMPLETION = 1024  # tokens of an answer whose caller sets no limit; it is set for it
LARGEST = 4 << 20  # bytes of a request
TEMPLATE = 512  # tokens that a chat template may add to what the caller wrote, with some for each message
PER_MESSAGE = 32
DONE = b"data: [DONE]"
GONE = 499  # the status of a call whose caller has gone away
SESSION = web.AppKey("session", aiohttp.ClientSession)


@dataclass(frozen=True)
class Upstream:
    """Where calls go. url: as in https://host/v1; seconds: without a byte, after which it counts as dead."""

    url: str
    key: str = field(repr=False)
    seconds: float = 120.0


@dataclass(frozen=True)
class Asked:
    """A call as it is forwarded. prompt, completion: the most tokens; usage: the caller wants it in the stream."""

    body: Mapping[str, Any]
    prompt: int
    completion: int
    usage: bool

    @property
    def model(self) -> str:
        return self.body["model"]


class Bill:
    """What one call comes to. Until the upstream has said what was used, all that was set aside counts."""

    def __init__(self, ledger: Ledger, asked: Asked):
        self._ledger, self._asked, self._began = ledger, asked, time.monotonic()
        self._held: Decimal | None = ledger.hold(asked.model, asked.prompt, asked.completion)
        self._tokens, self._measured = (asked.prompt, asked.completion), False
        self.status = GONE

    def count(self, usage: Any) -> None:
        """Takes the upstream's own count; one that is none changes nothing."""
        named = ("prompt_tokens", "completion_tokens")
        tokens = [usage.get(key) for key in named] if isinstance(usage, dict) else []
        if tokens and all(isinstance(n, int) and n >= 0 for n in tokens):
            self._tokens, self._measured = (tokens[0], tokens[1]), True

    def nothing(self) -> None:
        """The call was not answered, and costs nothing."""
        self._tokens, self._measured = (0, 0), True

    def close(self) -> None:
        """Charges the call; a second time does nothing."""
        if self._held is None:
            return
        cost = self._ledger.prices[self._asked.model].of(*self._tokens)
        seconds = time.monotonic() - self._began
        call = Call(self._asked.model, self.status, *self._tokens, cost, seconds, self._measured)
        held, self._held = self._held, None
        self._ledger.settle(call, held)


def application(upstream: Upstream, ledger: Ledger) -> web.Application:
    """The proxy, to be served on loopback or on a Unix socket."""
    app = web.Application(client_max_size=LARGEST)

    async def session(app):
        app[SESSION] = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=upstream.seconds),
            headers={"Authorization": f"Bearer {upstream.key}", "Accept-Encoding": "identity"},
            connector=aiohttp.TCPConnector(limit=0),
            trust_env=False,
        )
        yield
        await app[SESSION].close()

    async def complete(request: web.Request) -> web.StreamResponse:
        return await _complete(request, upstream, ledger)

    async def models(request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in ledger.prices]}
        )

    app.cleanup_ctx.append(session)
    app.add_routes([web.post(path, complete) for path in PATHS] + [web.get("/v1/models", models)])
    return app


async def _complete(request: web.Request, upstream: Upstream, ledger: Ledger) -> web.StreamResponse:
    try:
        asked = _asked(await request.read(), ledger)
    except ValueError as error:
        return _error(400, str(error))
    try:
        bill = Bill(ledger, asked)
    except OverBudget as error:
        ledger.settle(Call(asked.model, 402, 0, 0, Decimal(0), 0.0), Decimal(0))
        return _error(402, str(error))
    try:
        return await _forward(request, upstream, asked, bill)
    finally:
        bill.close()


def _asked(content: bytes, ledger: Ledger) -> Asked:
    """The call to forward, with limits on what it can use; ValueError says what is wrong with it."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("the request is no JSON.") from None
    model = body.get("model") if isinstance(body, dict) else None
    if not isinstance(model, str) or model not in ledger.prices:
        raise ValueError(f"the model {model!r} has no price here; ask for one of {', '.join(ledger.prices)}.")
    limits = [key for key in ("max_completion_tokens", "max_tokens") if body.get(key) is not None]
    made = dict(body) if limits else body | {"max_tokens": COMPLETION}
    numbers = {key: made.get(key) for key in (*(limits or ["max_tokens"]), "n", "best_of") if made.get(key) is not None}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**7:
            raise ValueError(f"{key} is {value!r}; write a whole number from 1 on.")
    answers = max(numbers.get("n", 1), numbers.get("best_of", 1))
    longest = max(value for key, value in numbers.items() if key.startswith("max"))
    options = made.get("stream_options") if isinstance(made.get("stream_options"), dict) else {}
    if made.get("stream"):
        made = made | {"stream_options": {**options, "include_usage": True}}
    # a token is at least one byte of what was sent
    messages = made.get("messages") if isinstance(made.get("messages"), list) else [None]
    _check_text(messages)
    prompt = len(content) + TEMPLATE + PER_MESSAGE * len(messages)
    return Asked(made, prompt, _prompts(made.get("prompt")) * answers * longest, bool(options.get("include_usage")))


def _check_text(messages: Sequence[Any]) -> None:
    """ValueError for a message whose tokens cannot be bounded by what was sent."""
    for message in messages:
        parts = message.get("content") if isinstance(message, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, dict) or part.get("type") != "text":
                raise ValueError("a message holds more than text; send text alone.")


def _prompts(prompt: Any) -> int:
    """How many prompts a call holds that gives them by themselves: a text, tokens, or a list of these."""
    several = isinstance(prompt, list) and not all(isinstance(token, int) for token in prompt)
    return max(1, len(prompt)) if several else 1


async def _forward(request: web.Request, upstream: Upstream, asked: Asked, bill: Bill) -> web.StreamResponse:
    """Hands the call on and its answer back."""
    url = upstream.url.rstrip("/") + request.path.removeprefix("/v1")
    try:
        async with request.app[SESSION].post(url, json=asked.body, allow_redirects=False) as answer:
            kind = answer.headers.get("Content-Type", "application/json")
            if answer.status == 200 and kind.startswith("text/event-stream"):
                return await _stream(request, answer, upstream, asked, bill)
            content = _without_key(await answer.read(), upstream)
            bill.status = answer.status
            if answer.status == 200:
                bill.count(_parsed(content).get("usage"))
            else:
                bill.nothing()
            return web.Response(status=answer.status, body=content, headers={"Content-Type": kind})
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if bill.status == GONE:
            bill.status = 502
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                bill.nothing()  # it was never reached; one that was may have begun to compute
        return _error(502, f"the upstream did not answer ({type(error).__name__}); the call can be repeated.")


async def _stream(request, answer, upstream: Upstream, asked: Asked, bill: Bill) -> web.StreamResponse:
    """Passes events on as they come. The one that holds the usage is ours, unless the caller asked for it too."""
    made = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    bill.status = 200
    await made.prepare(request)
    ended, why = False, "without the end of the answer"
    try:
        async for event in _events(answer):
            told = _parsed(event.removeprefix(b"data:")) if event.startswith(b"data:") else {}
            bill.count(usage := told.get("usage"))
            if event.strip() == DONE:
                ended = True
                bill.close()  # before the caller hears that this is the end
            if not usage or told.get("choices") or asked.usage:
                await made.write(_without_key(event, upstream) + b"\n\n")
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, TimeoutError) as error:
        why = type(error).__name__
    bill.close()
    if not ended:
        await made.write(b"data: " + json.dumps(_said(502, f"the upstream broke off ({why}).")).encode() + b"\n\n")
    await made.write_eof()
    return made


async def _events(answer: aiohttp.ClientResponse):
    """The events of a stream, without the empty line that ends each."""
    waiting = b""
    async for chunk in answer.content.iter_any():
        waiting = (waiting + chunk).replace(b"\r\n", b"\n")
        *whole, waiting = waiting.split(b"\n\n")
        for event in whole:
            yield event
        if len(waiting) > LARGEST:
            raise aiohttp.ClientPayloadError("an event without an end")
    if waiting.strip():
        yield waiting.strip()


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        made = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


def _without_key(content: bytes, upstream: Upstream) -> bytes:
    return content.replace(upstream.key.encode(), b"[key]") if upstream.key else content


def _said(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "metering", "code": status}}


def _error(status: int, message: str) -> web.Response:
    return web.json_response(_said(status, message), status=status)


class Serving:
    """The proxy in a thread of its own for as long as the block lasts. `url` is where it listens.

    socket: a Unix socket instead of a port of loopback; port: 0 takes a free one.
    """

    def __init__(self, upstream: Upstream, ledger: Ledger, socket: str | None = None, port: int = 0):
        self._app, self._socket, self._port = application(upstream, ledger), socket, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.url = ""

    def __enter__(self) -> Serving:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    async def _open(self) -> None:
        self._runner = web.AppRunner(self._app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        if self._socket:
            site = web.UnixSite(self._runner, self._socket)
        else:
            site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        if not self._socket:
            self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    def __exit__(self, *exc) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
