"""Which intent a ticket has: every label of the taxonomy is scored, and the best one wins.

Two scores are added up. Direct: how likely is the label after the ticket, compared with no ticket at all (Holtzman et
al. 2021, arXiv:2104.08315). Channel: how likely is the ticket after the label's description (Min et al. 2022,
arXiv:2108.04106), which is steadier with few examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lora import Pair, logprobs

CHANNEL = 0.5  # share of the channel's score
NOTHING = "…"


def label_prompt(ticket: str) -> str:
    return f"Support ticket: {ticket}\nIt is about:"


def label_text(label: Mapping[str, str]) -> str:
    """' billing, seat question', which a tokenizer cuts into words."""
    return " " + label["intent"].replace(".", ", ").replace("_", " ")


def ticket_prompt(label: Mapping[str, str]) -> str:
    return f"Topic:{label_text(label)}. {label['description']}\nSupport ticket:"


def pairs(rows: Sequence[Mapping[str, str]], taxonomy: Sequence[Mapping[str, str]]) -> list[Pair]:
    """What is trained: each ticket in both directions."""
    by_name = {label["intent"]: label for label in taxonomy}
    made = []
    for row in rows:
        label = by_name[row["intent"]]
        made.append(Pair(label_prompt(row["ticket"]), label_text(label)))
        made.append(Pair(ticket_prompt(label), " " + row["ticket"]))
    return made


def scores(model, tokenizer, tickets: Sequence[str], taxonomy: Sequence[Mapping[str, str]]):
    """(direct, channel): [tickets][labels] each, higher is likelier."""
    labels = [label_text(label) for label in taxonomy]
    usual = logprobs(model, tokenizer, label_prompt(NOTHING), labels)
    direct = [
        [score - least for score, least in zip(logprobs(model, tokenizer, label_prompt(t), labels), usual, strict=True)]
        for t in tickets
    ]
    by_label = [logprobs(model, tokenizer, ticket_prompt(label), [" " + t for t in tickets]) for label in taxonomy]
    return direct, [list(row) for row in zip(*by_label, strict=True)]


def best(direct: Sequence[float], channel: Sequence[float], share: float = CHANNEL) -> int:
    """The place of the best label of one ticket. Each score counts by its standard deviation over the labels."""
    one, other = _scaled(direct), _scaled(channel)
    both = [(1 - share) * a + share * b for a, b in zip(one, other, strict=True)]
    return max(range(len(both)), key=both.__getitem__)


def _scaled(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5 or 1.0
    return [(v - mean) / spread for v in values]
