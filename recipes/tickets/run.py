"""The reference submission: trains a LoRA adapter on a few tickets, then predicts intent and reply of others.

    python run.py --train train.jsonl --val val.jsonl --weights DIR --output results.json

It stands alone: torch, transformers, peft, the standard library, and the files beside it. The README says what it does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import intents
import torch
from facts import Finder, read_facts
from lora import Pair, load, merged, train, write

HERE = Path(__file__).parent
FACTS_SHOWN = 3
LONGEST_REPLY = 90  # tokens
BATCH_OF_REPLIES = 25
WORD = re.compile(r"\w+")


def main() -> None:
    given = _parser().parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    taxonomy = json.loads((HERE / "taxonomy.json").read_text(encoding="utf-8"))
    labelled, tickets = _rows(given.train), _rows(given.val)
    known = {label["intent"] for label in taxonomy}
    taxonomy += [{"intent": name, "description": ""} for name in sorted({r["intent"] for r in labelled} - known)]
    replies = Replies(taxonomy)
    model, tokenizer = load(given.weights, given.seed, given.rank, given.layers)
    rows = [*_rows(HERE / "paraphrases.jsonl"), *labelled]
    held_out, kept = _parted(rows, given.held_out)
    tried, shown = _parted(labelled, given.tried)
    learned = [*intents.pairs(kept, taxonomy), *replies.pairs(shown)]
    unseen = intents.pairs(held_out, taxonomy)
    said = train(model, tokenizer, learned, unseen, given.epochs, given.batch, given.lr, given.seed)
    model = merged(model)
    answers = Answers(model, tokenizer, replies, tried)
    predictions = predict(model, tokenizer, tickets, taxonomy, answers)
    Path(given.output).write_text(json.dumps({"training": said, "predictions": predictions}), encoding="utf-8")
    if given.adapter:
        model.save_pretrained(given.adapter)


def _parted(rows: Sequence[dict], every: int) -> tuple[list[dict], list[dict]]:
    """(one row in so many, the others)"""
    return list(rows[::every]), [row for n, row in enumerate(rows) if n % every]


class Replies:
    """What a reply is made from: the facts that a ticket of an intent is probably about."""

    def __init__(self, taxonomy: Sequence[Mapping[str, str]]):
        self._finder = Finder(read_facts(HERE / "facts.md"))
        self._about = {label["intent"]: label["description"] for label in taxonomy}

    def facts(self, ticket: str, intent: str, most: int) -> list[str]:
        return self._finder.find(f"{ticket} {self._about[intent]}", most)

    def prompt(self, ticket: str, intent: str) -> str:
        return "Facts:\n" + "\n".join(self.facts(ticket, intent, FACTS_SHOWN)) + f"\nSupport ticket: {ticket}\nReply:"

    def pairs(self, labelled: Sequence[Mapping[str, str]]) -> list[Pair]:
        return [Pair(self.prompt(row["ticket"], row["intent"]), " " + row["ideal_reply"]) for row in labelled]


class Answers:
    """Replies that the model writes, or quotes of the fact found first: whichever is nearer to ideal replies.

    tried: labelled rows whose replies were not trained on. A small model writes fluent sentences with wrong figures.
    """

    def __init__(self, model, tokenizer, replies: Replies, tried: Sequence[Mapping[str, str]]):
        self._model, self._tokenizer, self._replies = model, tokenizer, replies
        rows = [(row["ticket"], row["intent"]) for row in tried]
        ideal = [row["ideal_reply"] for row in tried]
        written, quoted = (
            sum(in_common(text, wanted) for (text, _), wanted in zip(way(rows), ideal, strict=True))
            for way in (self.written, self.quoted)
        )
        self.best = self.written if written > quoted else self.quoted

    def written(self, rows: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
        """(reply, tokens read and written) for each (ticket, intent), prompts of like length in one batch."""
        prompts = [self._replies.prompt(*row) for row in rows]
        order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n]), n))
        found = {}
        for n in range(0, len(order), BATCH_OF_REPLIES):
            part = order[n : n + BATCH_OF_REPLIES]
            made = write(self._model, self._tokenizer, [prompts[k] for k in part], LONGEST_REPLY)
            found |= dict(zip(part, made, strict=True))
        return [found[n] for n in range(len(rows))]

    def quoted(self, rows: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
        """The same of the fact found first."""
        found = [" ".join(self._replies.facts(*row, 1)) for row in rows]
        return [(text, len(self._tokenizer(text).input_ids)) for text in found]


def in_common(text: str, ideal: str) -> float:
    """F1 of the words of two texts, with repeats."""
    one, other = (Counter(WORD.findall(each.lower())) for each in (text, ideal))
    return 2 * (one & other).total() / max((one + other).total(), 1)


def predict(model, tokenizer, tickets, taxonomy, answers: Answers) -> list[dict]:
    """One prediction a ticket; the latency is its share of the time that all of them took."""
    began = time.monotonic()
    direct, channel = intents.scores(model, tokenizer, [row["ticket"] for row in tickets], taxonomy)
    named = [taxonomy[intents.best(a, b)]["intent"] for a, b in zip(direct, channel, strict=True)]
    replies = answers.best([(row["ticket"], name) for row, name in zip(tickets, named, strict=True)])
    each = 1000 * (time.monotonic() - began) / max(len(tickets), 1)
    return [
        {"id": row["id"], "prediction": text, "predicted_intent": name, "latency_ms": each, "tokens_used": tokens}
        for row, name, (text, tokens) in zip(tickets, named, replies, strict=True)
    ]


def _rows(path: str | Path) -> list[dict]:
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train on support tickets and answer others.")
    parser.add_argument("--train", required=True, help="JSONL of {id, ticket, intent, ideal_reply}")
    parser.add_argument("--val", required=True, help="JSONL of {id, ticket}")
    parser.add_argument("--weights", required=True, help="directory of the base model")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--adapter", help="directory for the adapter, to be judged by other gates (default: not kept)")
    parser.add_argument("--epochs", type=int, default=3, help="0 predicts with the base as it is")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--layers", type=int, default=20, help="how many of the last layers are adapted")
    parser.add_argument("--held-out", type=int, default=20, help="one ticket in so many gives val_loss alone")
    parser.add_argument("--tried", type=int, default=5, help="one reply in so many decides: write or quote")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "0")))
    return parser


if __name__ == "__main__":
    main()
