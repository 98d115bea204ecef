"""Pairs as a benchmark: what a model makes of the chosen and of the rejected answer, stored item by item.

    scores = preference_scores(model, PreferenceSet(pairs, tokenizer), store, models)    # {pair id: Score}

Each item is two log-likelihoods behind one prompt, in the form that recipes.dpo trains; so whatever reads the models of
an audit - our engine, lm-eval's backend, a server - answers here too. What they say together is in `implicit_rewards`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.benchmarks import Item
from harness.checkpoints import CheckedModel
from harness.evaluate import cell_of, fill
from harness.fingerprint import digest_of
from harness.implicit_rewards import CHOSEN, CHOSEN_TOKENS, PREFERS, REJECTED, REJECTED_TOKENS, won
from harness.models import LoadedModels
from harness.pairs import Pair, pairs_digest
from harness.specs import Unusable
from harness.store import Score, Store
from harness.tokenizers import rendered

VERSION = 1  # raise it when what is stored for a pair changes its meaning


class PreferenceSet:
    """What `evaluate.fill` asks of a benchmark, for pairs.

    too_long: ids of the pairs that do not fit into `positions` tokens (None: no limit), which are no items; the caller
    says how many. `Unusable` if that leaves none.
    """

    def __init__(self, pairs: Sequence[Pair], tokenizer, positions: int | None = None):
        texts = {pair.id: _texts(pair, tokenizer) for pair in pairs}
        self.too_long = tuple(id for id, own in texts.items() if positions and _longest(own, tokenizer) > positions)
        self._texts = {id: own for id, own in texts.items() if id not in set(self.too_long)}
        if not self._texts:
            raise Unusable(f"none of the {len(pairs)} pairs fits into the model's {positions} positions; shorten them.")
        self.items = tuple(Item(id, "pairs", {}) for id in self._texts)
        self.digest = digest_of([VERSION, pairs_digest(pairs), sorted(self._texts.values())])

    def requests(self, item: Item, seed: int, chat_template: Callable[..., str] | None = None) -> list[Any]:
        """The chosen answer's request, and the rejected one's."""
        from lm_eval.api.instance import Instance

        context, *answers = self._texts[item.id]
        return [Instance("loglikelihood", {}, (context, answer), n) for n, answer in enumerate(answers)]

    def score(
        self, item: Item, requests: list[Any], responses: list[Any], count_tokens: Callable[[str], int] = len
    ) -> dict[str, float]:
        """Log-likelihoods in nats, tokens, and which answer this model itself would give: 1 the chosen, 0.5 a tie."""
        chosen, rejected = (float(loglikelihood) for loglikelihood, _ in responses)
        tokens = [count_tokens(request.args[1]) for request in requests]
        own = float(won(chosen - rejected))
        return {PREFERS: own, CHOSEN: chosen, REJECTED: rejected, CHOSEN_TOKENS: tokens[0], REJECTED_TOKENS: tokens[1]}

    def check_metric(self, metrics: dict[str, float], item: Item) -> None:
        """All metrics are ours."""


def preference_scores(
    model: CheckedModel, preferences: PreferenceSet, store: Store, models: LoadedModels
) -> dict[str, Score]:
    """Pair id -> its score, evaluated where the store has none."""
    fill(model, preferences, [0], store, models)
    return store.get(cell_of(model, preferences, 0, models))


def _texts(pair: Pair, tokenizer) -> tuple[str, str, str]:
    """(context, chosen, rejected), ends of turn with the answers: a chat turn, or a line where there is no template."""
    answers = pair.chosen, pair.rejected
    if not tokenizer.chat_template:
        return pair.prompt + "\n", *(answer + tokenizer.eos_token for answer in answers)
    user = [{"role": "user", "content": pair.prompt}]
    context = rendered(tokenizer, user)
    whole = [tokenizer.apply_chat_template([*user, _turn(answer)], tokenize=False) for answer in answers]
    if all(text.startswith(context) for text in whole):
        return context, *(text[len(context) :] for text in whole)
    return context, *(answer + tokenizer.eos_token for answer in answers)  # a template that opens its turns otherwise


def _turn(answer: str) -> dict[str, str]:
    return {"role": "assistant", "content": answer}


def _longest(texts: tuple[str, str, str], tokenizer) -> int:
    context, *answers = texts
    return max(len(tokenizer(context + answer).input_ids) for answer in answers)
