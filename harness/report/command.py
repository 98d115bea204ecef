"""The command line that would run an audit again: what it was given, less what the basket file says anyway."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.baskets import load_basket
from harness.judging import Judging
from harness.specs import Basket, Unusable

ROOT = Path(__file__).resolve().parent.parent.parent


def command(audit: Judging) -> str:
    """One line for a shell in the checkout; what wins over a basket file as it was, wherever it came from."""
    options, basket = audit.options, audit.basket
    words = ["--base", options.base]
    for text in options.candidates:
        words += ["--candidate", text]
    if basket.file:
        words += ["--basket", _from_root(basket.file)]
    words += _changed(audit)
    words += ["--recipe"] if options.recipe else []
    words += _of_models(audit) if audit.live else []
    return shlex.join(["python", "-m", "pytest", "-m", "forgetting", *_joined(words)])


def _of_models(audit: Judging) -> list[str]:
    options, run = audit.options, audit.environment
    words = ["--mitigate", ",".join(options.mitigate) or "none"]
    words += ["--backend", options.backend] if options.backend != "hf" else []
    words += ["--dtype", run["dtype"], "--device", run["device"]]
    return words + (["--trust-remote-code"] if options.trust_remote_code else [])


def _from_root(file: str) -> str:
    path = Path(file).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else file


def _changed(audit: Judging) -> list[str]:
    """The options that made this basket out of its file."""
    basket = audit.basket
    try:
        written = load_basket(basket.file) if basket.file else None
    except Unusable:  # it was moved since
        written = None
    words = []
    if audit.live and (written is None or _seeds(written) != _seeds(basket)):  # what was logged has the seed it has
        words += ["--seeds", ",".join(map(str, basket.seeds))]
    margins = {b.name: b.margin for b in written.benchmarks} if written else {}
    for b in basket.skills:
        words += ["--margin", f"{b.name}={b.margin:g}"] if margins.get(b.name) != b.margin else []
    sampled = {b.name for b in written.benchmarks if b.temperature} if written else set()
    words += ["--greedy"] if any(b.name in sampled and not b.temperature for b in basket.benchmarks) else []
    early = basket.policy.stopping == "early"
    return words + (["--stop-early"] if early and (written is None or written.policy.stopping != "early") else [])


def _seeds(basket: Basket) -> list[tuple[int, ...]]:
    return [basket.seeds, *(b.seeds for b in basket.benchmarks)]


def _joined(words: list[str]) -> list[str]:
    """A separate absolute path would be taken for a place to look for tests, so it follows its option's equals sign."""
    found: list[str] = []
    for word in words:
        if found and word.startswith("/") and found[-1].startswith("--"):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found
