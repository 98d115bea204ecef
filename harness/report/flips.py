"""The items that a fine-tune lost and won on one benchmark, with both answers: as CSV for work, as HTML for reading.

made = changed(audit, audit.candidates[:1], "ifeval")
lost, gained = [f for f in made if f.change < 0], [f for f in made if f.change > 0]
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.checkpoints import CheckedModel
from harness.compare import Comparison
from harness.judging import Judging
from harness.report import escape
from harness.report.markup import NUMBER, page, table
from harness.report.numbers import points, signed
from harness.store import Score

HEAD = (
    "item", "task", "base", "candidate", "change", "seed", "question", "expected", "answer_of_base",
    "answer_of_candidate",
)  # fmt: skip
Cell = tuple[int, list[dict[str, Score]], NDArray[np.float64]]  # seed, answers of base and candidate, changes
READ = 40  # items on a page for reading; the CSV has them all
CELL, FIELD = 700, 4000  # characters of a text, on the page and in the CSV


@dataclass(frozen=True)
class Flip:
    """One item whose score changed. base, candidate, change: proportions, in the mean over seeds (and training runs).

    seed: the one under which the item changed most so (and in the training run that did); before, after: the answers of
    base and candidate there; expected: the right one, where it is known.
    """

    item: str
    task: str
    base: float
    candidate: float
    change: float
    seed: int
    question: str
    expected: str
    before: str
    after: str


def changed(audit: Judging, candidates: Sequence[CheckedModel], benchmark: str) -> list[Flip]:
    """Items lost or won, those that changed most first. candidates: one, or the training runs of a recipe."""
    mean = averaged(audit, candidates, benchmark)
    base, change = mean.base.mean(axis=1), mean.change.mean(axis=1)
    loaded, cells = audit.benchmarks[benchmark], _cells(audit, candidates, benchmark)
    items = {item.id: item for item in audit.items(benchmark)}
    found = []
    for n in np.flatnonzero(change):
        item, sign = items[mean.items[n]], np.sign(change[n])
        seed, sides, _ = max(cells, key=lambda cell: sign * cell[2][n])
        answers = [loaded.answer(item, side[item.id]) for side in sides]
        scores = float(base[n]), float(base[n] + change[n]), float(change[n])
        texts = loaded.question(item), loaded.expected(item)
        found.append(Flip(item.id, item.stratum, *scores, seed, *texts, *answers))
    return sorted(found, key=lambda flip: (-abs(flip.change), flip.item))


def _cells(audit: Judging, candidates: Sequence[CheckedModel], benchmark: str) -> list[Cell]:
    """What was answered under each seed, and each item's change there."""
    found = []
    for candidate in candidates:
        run = audit.comparison(candidate, benchmark)
        for seed in audit.written(benchmark):
            sides = [audit.scores(side, benchmark, seed) for side in (audit.base, candidate)]
            found.append((seed, sides, run.change[:, run.seeds.index(seed)]))
    return found


def averaged(audit: Judging, candidates: Sequence[CheckedModel], benchmark: str) -> Comparison:
    """Base against the mean of the candidates, as a recipe's verdict takes it; against the one where there is one."""
    runs = [audit.comparison(candidate, benchmark) for candidate in candidates]
    return replace(runs[0], candidate=np.mean([run.candidate for run in runs], axis=0))


def as_csv(flips: Sequence[Flip]) -> str:
    """All items, scores in points; texts cut at some thousand characters, as scores.jsonl has them whole."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEAD)
    for item, task, base, candidate, change, seed, *texts in map(astuple, flips):
        numbers = [points(base), points(candidate), points(change), seed]
        writer.writerow(
            [*map(escape.csv_cell, (item, task)), *numbers, *(escape.csv_cell(escape.cut(t, FIELD)) for t in texts)]
        )
    return file.getvalue()


def as_html(flips: Sequence[Flip], title: str) -> str:
    """A page for reading: question and both answers of the items that changed most."""
    shown = flips[:READ]
    said = f"The {len(shown)} of {len(flips)} items that changed most; the CSV beside this has them all."
    if len(shown) == len(flips):
        said = f"All {len(flips)} items, those that changed most first."
    columns = {"points": [f"{points(f.base)} → {points(f.candidate)} ({signed(f.change)})" for f in shown]}
    for head, texts in (
        ("question", [f.question for f in shown]),
        ("expected", [f.expected for f in shown]),
        ("base", [f.before for f in shown]),
        ("fine-tuned", [f.after for f in shown]),
    ):
        if any(texts):
            columns[head] = [escape.cut(text, CELL) for text in texts]
    rows = list(zip(*columns.values(), strict=True))
    return page(title, f"<p>{escape.html(said)}</p>", table([*columns], rows, {"points": NUMBER}, preformatted=True))
