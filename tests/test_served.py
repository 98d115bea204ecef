"""Models behind a server: what is refused and why, and, with `make parity`, a real server on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from tokenizers.processors import TemplateProcessing

from harness import assets
from harness.audit import Options, prepare
from harness.backends import reader, stream
from harness.baskets import load_basket
from harness.models import LoadedModels
from harness.served import check_loglikelihoods, check_served, open_served
from harness.specs import Unusable, parse_model
from tests.conftest import save_tiny
from tests.test_engine import writings
from tests.tiny_audit import write_basket


@pytest.fixture
def server(tmp_path):
    """A server that lists one tiny model and answers as its attributes say."""
    model = save_tiny(tmp_path / "model")
    plan = SimpleNamespace(status=200, echo=True, shift=0.0, listed=str(model), keys=[])

    class Handler(BaseHTTPRequestHandler):
        def reply(self, content):
            body = json.dumps(content).encode()
            self.send_response(plan.status)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            plan.keys.append(self.headers.get("Authorization"))
            self.reply({"data": [{"id": plan.listed, "max_model_len": 99}]})

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = asked["prompt"] + "!" * 8 if plan.echo else "!" * 8
            values = [-1.5 + plan.shift] * (20 if plan.echo else 8)
            self.reply({"choices": [{"text": text, "logprobs": {"token_logprobs": values}}]})

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    plan.url = f"http://127.0.0.1:{listening.server_port}/v1"
    plan.spec = parse_model(f"served:{plan.url}#{model}")
    yield plan
    listening.shutdown()
    listening.server_close()


def said(call, *given) -> str:
    with pytest.raises(Unusable) as error:
        call(*given)
    return str(error.value)


def test_a_served_model_is_recognised_by_its_answers(server):
    first, again = check_served(server.spec), check_served(server.spec)
    assert first.digest == again.digest
    assert first.positions == 99
    server.shift = 0.01
    assert check_served(server.spec).digest != first.digest


def test_the_key_comes_from_the_environment_alone(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    check_served(server.spec)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    check_served(server.spec)
    assert server.keys == [None, "Bearer secret"]


REFUSED = {
    "no such model": ({"listed": "other"}, "name one of other."),
    "a wrong key": ({"status": 401}, "refuses the key; set OPENAI_API_KEY"),
    "another program": ({"status": 404}, "must speak the OpenAI protocol"),
}


@pytest.mark.parametrize(("plan", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_server_that_cannot_be_judged_is_said(server, plan, sentence):
    vars(server).update(plan)
    assert sentence in said(check_served, server.spec)


def test_a_server_that_is_not_there_is_said(tmp_path):
    sentence = said(check_served, parse_model("served:http://127.0.0.1:9/v1#m"))
    assert "does not answer at http://127.0.0.1:9/v1/models" in sentence


def test_a_server_without_log_probabilities_of_prompts_is_said_where_they_are_needed(server, tmp_path):
    check_loglikelihoods(server.spec)
    server.echo = False
    assert "gives no log-probabilities of a prompt" in said(check_loglikelihoods, server.spec)
    options = Options(server.spec.text, (server.spec.text,), tmp_path / "out", tmp_path / "store", device="cpu")
    basket = load_basket(write_basket(tmp_path, choices='task = "tiny_choice"'))
    assert "gives no log-probabilities of a prompt" in said(prepare, basket, options)


def test_base_and_candidate_are_read_by_the_same_program(server, tmp_path, tiny_base):
    options = Options(str(tiny_base), (server.spec.text,), tmp_path / "out", tmp_path / "store", device="cpu")
    assert "serve both, or neither" in said(prepare, load_basket(write_basket(tmp_path)), options)


def test_a_chat_template_that_prints_bos_gets_no_second_one(server):
    lm = open_served(check_served(server.spec))
    lm.tokenizer.bos_token, lm.add_bos_token = "<s>", True
    lm.tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    once = lm.tok_encode("hello")
    assert once[0] == 0
    assert lm.tok_encode("<s>hello") == once
    assert lm.tok_encode(["<s>hello", "hello"]) == [once, once]


def test_an_answer_of_null_is_an_error_of_the_run(server):
    lm = open_served(check_served(server.spec))
    given = {"choices": [{"index": 0, "text": "yes"}]}
    assert lm.parse_generations(outputs=given) == ["yes"]
    given["choices"][0]["text"] = None
    with pytest.raises(RuntimeError, match="answered with null"):
        lm.parse_generations(outputs=given)


def test_a_worker_takes_the_digest_that_the_controller_took(server, tmp_path):
    digests = {server.spec.text: "taken"}
    options = Options(
        server.spec.text, (server.spec.text,), tmp_path / "out", tmp_path / "store", device="cpu", digests=digests
    )
    assert prepare(load_basket(write_basket(tmp_path)), options).base.digest == "taken"


@pytest.mark.parity
def test_a_real_server_writes_what_the_engine_writes():
    """llama.cpp's server with the embedded model's own file: it gives no log-probabilities of prompts, and says so."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(assets.fetch(assets.SMOLLM2) / assets.GGUF)
    settings.model_alias = {str(assets.base_model())}
    settings.n_ctx, settings.port = 2048, 0
    running = xllamacpp.Server(settings)
    spec = parse_model(f"served:{running.listening_address}/v1#{assets.base_model()}")
    served, own = check_served(spec), LoadedModels()
    requests = writings(count=6, max_gen_toks=8)
    with reader(own, served, 0) as lm:
        texts = dict(stream(lm, requests))
    from harness.checkpoints import check

    with reader(own, check(parse_model("embedded:base")), 0) as lm:
        expected = dict(stream(lm, requests))
    assert sum(texts[n] == expected[n] for n in expected) >= 5  # its arithmetic is 4-bit, so a near tie may part
    assert "gives no log-probabilities of a prompt" in said(check_loglikelihoods, spec)
