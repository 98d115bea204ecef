"""What a reader sees of an item: its kinds of instruction, which of them an answer follows, the answer, the right one.

For loaded tasks. A recorded audit has kept what it needs of it (`recorded.RecordedBenchmark`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.store import Score
from harness.tasks import right_choices

STRICT = "inst_level_strict_acc"


def instruction_kinds(doc: Mapping[str, Any]) -> list[str]:
    """The kinds of instruction in a document of IFEval, or of our own set; empty for any other."""
    if isinstance(ids := doc.get("instruction_id_list"), list):
        return [str(kind) for kind in ids]
    try:
        return [str(one["kind"]) for one in json.loads(doc.get("instructions") or "[]")]
    except (ValueError, TypeError, KeyError):  # another task's own text of that name
        return []


def followed(task, doc: Mapping[str, Any], score: Score) -> list[bool] | None:
    """Which of its instructions an answer follows, by the task's own scorer, as the store keeps their mean alone.

    None where the scorer does not judge each of them.
    """
    flags = task.process_results(doc, [score.responses[0]]).get(STRICT)
    kinds = len(instruction_kinds(doc))
    return [bool(flag) for flag in flags] if isinstance(flags, list) and len(flags) == kinds else None


def answer_of(task, doc: Mapping[str, Any], score: Score) -> str:
    """What a model wrote, or of given choices the one that it finds most likely; empty where it was asked for none."""
    first = score.responses[0]
    if isinstance(first, str):
        return first
    if task.OUTPUT_TYPE != "multiple_choice":
        return ""
    choices = task.doc_to_choice(doc)
    likely = [loglikelihood for loglikelihood, _ in score.responses[: len(choices)]]
    return str(choices[likely.index(max(likely))])


def expected_of(task, doc: Mapping[str, Any]) -> str:
    """The right choice, or the text that the task compares an answer with; empty where there is neither."""
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(doc)
        return " | ".join(str(choices[place]) for place in right_choices(task, doc))
    target = task.doc_to_target(doc)
    return target if isinstance(target, str) else ""
