"""The reference submission: trains a LoRA adapter on a few tickets, then predicts intent and reply of others.

    python run.py --train train.jsonl --val val.jsonl --weights DIR --output results.json

It stands alone: torch, transformers, peft, the standard library, and the files beside it. The README says what it does.
"""

from __future__ import annotations

import argparse
import json
import os
import time
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


def main() -> None:
    given = _parser().parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    taxonomy = json.loads((HERE / "taxonomy.json").read_text(encoding="utf-8"))
    labelled, tickets = _rows(given.train), _rows(given.val)
    known = {label["intent"] for label in taxonomy}
    taxonomy += [{"intent": name, "description": ""} for name in sorted({r["intent"] for r in labelled} - known)]
    replies = Replies(labelled, taxonomy)
    model, tokenizer = load(given.weights, given.seed, given.rank, given.layers)
    learned = _learned(labelled, taxonomy, replies)
    held_out = learned[:: given.held_out]
    kept = [pair for n, pair in enumerate(learned) if n % given.held_out]
    said = train(model, tokenizer, kept, held_out, given.epochs, given.batch, given.lr, given.seed)
    predictions = predict(merged(model), tokenizer, tickets, taxonomy, replies)
    Path(given.output).write_text(json.dumps({"training": said, "predictions": predictions}), encoding="utf-8")
    if given.adapter:
        model.save_pretrained(given.adapter)


class Replies:
    """Prompts of replies: the facts that a ticket of an intent is probably about, then the ticket."""

    def __init__(self, labelled: Sequence[Mapping[str, str]], taxonomy: Sequence[Mapping[str, str]]):
        self._finder = Finder(read_facts(HERE / "facts.md"))
        self._about = {label["intent"]: label["description"] for label in taxonomy}
        self.labelled = labelled

    def prompt(self, ticket: str, intent: str) -> str:
        facts = self._finder.find(f"{ticket} {self._about[intent]}", FACTS_SHOWN)
        return "Facts:\n" + "\n".join(facts) + f"\nSupport ticket: {ticket}\nReply:"

    def pairs(self) -> list[Pair]:
        return [Pair(self.prompt(row["ticket"], row["intent"]), " " + row["ideal_reply"]) for row in self.labelled]


def _learned(labelled, taxonomy, replies: Replies) -> list[Pair]:
    """Everything that is trained: labels of the given tickets and of paraphrases that come with us, and replies."""
    return intents.pairs([*labelled, *_rows(HERE / "paraphrases.jsonl")], taxonomy) + replies.pairs()


def predict(model, tokenizer, tickets, taxonomy, replies: Replies) -> list[dict]:
    """One prediction a ticket; the latency is its share of the time that all of them took."""
    began = time.monotonic()
    direct, channel = intents.scores(model, tokenizer, [row["ticket"] for row in tickets], taxonomy)
    named = [taxonomy[intents.best(a, b)]["intent"] for a, b in zip(direct, channel, strict=True)]
    prompts = [replies.prompt(row["ticket"], name) for row, name in zip(tickets, named, strict=True)]
    order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n]), n))
    written = {}
    for n in range(0, len(order), BATCH_OF_REPLIES):
        part = order[n : n + BATCH_OF_REPLIES]
        answers = write(model, tokenizer, [prompts[k] for k in part], LONGEST_REPLY)
        written |= dict(zip(part, answers, strict=True))
    each = 1000 * (time.monotonic() - began) / max(len(tickets), 1)
    return [
        {
            "id": row["id"],
            "prediction": written[n][0],
            "predicted_intent": named[n],
            "latency_ms": each,
            "tokens_used": written[n][1],
        }
        for n, row in enumerate(tickets)
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
    parser.add_argument("--held-out", type=int, default=20, help="one in so many pairs gives val_loss")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "0")))
    return parser


if __name__ == "__main__":
    main()
