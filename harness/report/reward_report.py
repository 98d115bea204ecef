"""A reward model's release as files: report.pdf of three pages, drawings, methodology.md, verdict.json, scores.jsonl.

    write(document, scores, policy, Path("out"))

Page 1 is the decision with the targets and what blocks, page 2 the drawings, page 3 the worst pairs and what to do
next. The same document and scores give the same bytes; a drawing that cannot be made is left out, and page 2 says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.report import fonts, reward_methodology, reward_plots
from harness.report.files import replace_file
from harness.report.pdf import fitted, made_at
from harness.report.reward_pages import content, kept_categories
from harness.report.verdict_text import write_verdict
from harness.reward.accuracy import reward_accuracy
from harness.reward.policy import Policy
from harness.reward.scores import RewardScores, write_scores

TEMPLATE = Path(__file__).with_suffix(".typ")
PAGES = 3
HEIGHT = 2.4  # inches of the rows of one drawing on page 2

Document = Mapping[str, Any]


def write(document: Document, scores: RewardScores, policy: Policy, out: Path) -> None:
    """Writes all of them into --out, each by an atomic rename."""
    (out / "plots").mkdir(parents=True, exist_ok=True)
    write_verdict(document, out)
    scratch = out / f".scores.jsonl.{os.getpid()}"
    write_scores(scores, scratch)
    scratch.replace(out / "scores.jsonl")
    for name, svg in drawings(scores, policy).items():
        if svg is None:
            (out / "plots" / f"{name}.svg").unlink(missing_ok=True)
        else:
            replace_file(out / "plots" / f"{name}.svg", svg)
    methodology = reward_methodology.markdown_of(document)
    replace_file(out / "methodology.md", methodology.encode("utf-8", "backslashreplace"))
    replace_file(out / "report.pdf", pdf_of(document, scores, policy))


def pdf_of(document: Document, scores: RewardScores, policy: Policy) -> bytes:
    """The report as PDF; see `harness.report.pdf.fitted`."""
    kept = kept_categories(document["accuracy"]["categories"])
    inputs = {"data": json.dumps({**content(document), "fonts": fonts.families()})}
    inputs |= {name: (svg or b"").decode() for name, svg in drawings(scores, policy, kept).items()}
    return fitted(TEMPLATE, inputs, PAGES, made_at(document))


def drawings(scores: RewardScores, policy: Policy, kept: Sequence[str] | None = None) -> dict[str, bytes | None]:
    """Name -> SVG, None for what cannot be drawn.

    kept: the categories that have a row, in drawings of a size that makes one page; None for all, in files of their
    own. Margins and reliability are those of all pairs.
    """
    found, diagnostics = reward_accuracy(scores, policy), policy.diagnostics
    rows, half, listed = {}, {}, scores
    if kept is not None:
        rows = {"row": min(reward_plots.ROW, HEIGHT / (1 + len(kept)))}
        half = {"width": reward_plots.HALF}
        found, listed = replace(found, categories={name: found.categories[name] for name in kept}), _only(scores, kept)
    return {
        "accuracy": _drawn(lambda: reward_plots.accuracy(found, **rows)),
        "scores": _drawn(lambda: reward_plots.scores_by_category(listed, **rows)),
        "margins": _drawn(lambda: reward_plots.margins(scores, **half)),
        "reliability": _drawn(lambda: reward_plots.reliability_curve(scores, diagnostics.bins, policy.alpha, **half)),
    }


def _drawn(draw: Callable[[], bytes]) -> bytes | None:
    """None where the scores are no numbers, or too large for an axis."""
    try:
        with np.errstate(all="ignore"):
            return draw()
    except ValueError:
        return None


def _only(scores: RewardScores, kept: Sequence[str]) -> RewardScores:
    """The scores of these categories, without probes."""
    at = [n for n, pair in enumerate(scores.pairs) if pair.category in kept]
    pairs = tuple(scores.pairs[n] for n in at)
    return replace(scores, pairs=pairs, scores=scores.scores[at], tokens=scores.tokens[at], probes={})
