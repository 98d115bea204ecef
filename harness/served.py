"""Models behind an OpenAI-compatible server, named `served:URL#MODEL`, read through lm-eval's own class.

The server keeps the weights, so what it serves is recognised by its answers: a name and a few probes, whose
log-probabilities and greedy texts go into the digest; where it gives no log-probabilities, longer texts do, and models
that write them alike are taken for one. A key, if one is needed, comes from OPENAI_API_KEY alone.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

from harness.checkpoints import TOKENIZER_FILES, CheckedModel
from harness.fingerprint import digest_of, files_digest
from harness.specs import ModelSpec, Unusable
from harness.tokenizers import load_tokenizer

PROBES = ("The capital of France is", "Question: What is 7 times 8?\nAnswer:", "Once upon a time there was a")
PROBED, PROBED_LONG = 8, 64  # tokens of an answer with log-probabilities, and without
TIMEOUT = 60  # seconds for one probe
RETRIES = 5
CONCURRENT = 16  # requests under way at once; the server batches them
PATTERNS = ["token*", "*.jinja", "vocab*", "merges*", "*.model"]  # a tokenizer's files
LENGTH = 4096  # tokens, where the server does not say how many it takes


def check_served(spec: ModelSpec) -> CheckedModel:
    """Asks the server for its model and the probes; `Unusable` where it cannot be judged."""
    entry = _entry(spec)
    tokenizer = _tokenizer_path(spec, entry)
    answers = [_probe(spec, text) for text in PROBES]
    if not any(answer["logprobs"] for answer in answers):
        answers = [_probe(spec, text, PROBED_LONG) for text in PROBES]
    files = files_digest(path for name in TOKENIZER_FILES if (path := tokenizer / name).is_file())
    identity = [spec.location, spec.served_name, entry.get("root"), files, answers]
    return CheckedModel(spec, tokenizer, digest_of(identity), positions=entry.get("max_model_len"))


def open_served(model: CheckedModel):
    """lm-eval's `local-completions` for a checked model; failing requests are repeated, then an error of the run."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tokenizer = load_tokenizer(model)
    opens = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return _completions()(
        base_url=f"{model.spec.location}/completions",
        model=model.spec.served_name,
        tokenizer=str(model.tokenizer_path),
        tokenizer_backend="huggingface",
        tokenized_requests=True,
        add_bos_token=opens,
        max_length=model.positions or LENGTH,
        num_concurrent=CONCURRENT,
        max_retries=RETRIES,
    )


@functools.cache
def _completions():
    """lm-eval's class, with one BOS where a chat template prints it too, and no answer that the server did not give."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    class Completions(LocalCompletionsAPI):
        def tok_encode(self, string, *args, **kwargs):
            found = super().tok_encode(string, *args, **kwargs)
            bos = self.tokenizer.bos_token_id
            if isinstance(string, str):
                return found[1:] if bos is not None and found[:2] == [bos, bos] else found
            return [row[1:] if bos is not None and row[:2] == [bos, bos] else row for row in found]

        @staticmethod
        def parse_generations(outputs, **kwargs):
            texts = LocalCompletionsAPI.parse_generations(outputs, **kwargs)
            if None in texts:
                raise RuntimeError("the server answered with null instead of a text; see its log for what went wrong")
            return texts

    return Completions


def check_loglikelihoods(spec: ModelSpec) -> None:
    """`Unusable` if the server does not give the log-probabilities of a prompt, which a basket's metrics may need."""
    if not _probe(spec, PROBES[0])["echoed"]:
        raise Unusable(
            f"the server of '{spec.text}' gives no log-probabilities of a prompt (echo with logprobs), which this"
            " basket needs; serve the model with vLLM, or judge benchmarks that write their answers only."
        )


def _entry(spec: ModelSpec) -> dict[str, Any]:
    reply = _ask(spec, "models")
    entries = {entry.get("id"): entry for entry in reply.get("data", []) if isinstance(entry, dict)}
    if spec.served_name not in entries:
        raise Unusable(
            f"the server of '{spec.text}' has no model '{spec.served_name}'; name one of"
            f" {', '.join(map(str, entries)) or 'its models (it lists none)'}."
        )
    return entries[spec.served_name]


def _tokenizer_path(spec: ModelSpec, entry: dict[str, Any]) -> Path:
    """Where the served model's tokenizer lies: the directory or hub id that the server names, or its own name."""
    for name in (entry.get("root"), spec.served_name):
        if name and (Path(name) / "tokenizer_config.json").is_file():
            return Path(name)
    from huggingface_hub import snapshot_download

    for name in (entry.get("root"), spec.served_name):
        try:
            return Path(snapshot_download(str(name), allow_patterns=PATTERNS))
        except Exception:  # no such id, or no network; said below for both names
            continue
    raise Unusable(
        f"the tokenizer of '{spec.text}' is neither in a directory nor on the hub under that name; serve the model"
        " under the path of its directory or its hub id."
    )


def _probe(spec: ModelSpec, text: str, tokens: int = PROBED) -> dict[str, Any]:
    """The greedy continuation with its log-probabilities, and whether the prompt's are given too."""
    asked = {"model": spec.served_name, "prompt": text, "max_tokens": tokens}
    asked |= {"temperature": 0, "logprobs": 1, "echo": True}
    choice = (_ask(spec, "completions", asked).get("choices") or [{}])[0]
    logprobs = choice.get("logprobs") or {}
    # of the continuation alone there would be text without the prompt
    echoed = str(choice.get("text", "")).startswith(text) and len(logprobs.get("token_logprobs") or []) > 2
    return {"text": choice.get("text"), "logprobs": _rounded(logprobs), "echoed": echoed}


def _rounded(value: Any) -> Any:
    """JSON with its numbers to a thousandth, which a server repeats and another model does not."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, 3) if isinstance(value, float) else value


def _ask(spec: ModelSpec, path: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
    import requests

    url = f"{spec.location}/{path}"
    header = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("OPENAI_API_KEY")) else {}
    try:
        if payload is None:
            reply = requests.get(url, headers=header, timeout=TIMEOUT)
        else:
            reply = requests.post(url, json=payload, headers=header, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise Unusable(
            f"the server of '{spec.text}' does not answer at {url} ({type(error).__name__}); start it, or correct the"
            " URL (it ends in /v1)."
        ) from None
    if reply.status_code in (401, 403):
        raise Unusable(f"the server of '{spec.text}' refuses the key; set OPENAI_API_KEY to a valid one.")
    try:
        if reply.ok:
            return reply.json()
    except ValueError:
        pass
    raise Unusable(
        f"the server of '{spec.text}' answers {url} with status {reply.status_code} ({reply.text.strip()[:80]!r}); it"
        " must speak the OpenAI protocol."
    )
