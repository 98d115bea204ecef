"""What exactly was forgotten: kinds of instruction, subjects, and a few answers before and after.

About one benchmark and candidate: the largest regression, or where nothing regressed the one that comes closest to it.
It is stored in `verdict.json`, so that every report says the same without documents or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.benchmarks import Item
from harness.checkpoints import CheckedModel
from harness.compare import Comparison
from harness.judging import Judged, Judging
from harness.report.tradeoff import worst
from harness.store import Score
from harness.verdict import INCONCLUSIVE, REGRESSED

EXAMPLES, SUBJECTS = 3, 8
QUESTION, ANSWER = 600, 900  # characters that are stored


Answers = dict[int, tuple[dict[str, Score], dict[str, Score]]]  # by seed, of base and candidate, by item


def forgotten(audit: Judging, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one benchmark's candidate lost. rows: the verdicts of the document, all of accuracy in points.

    kinds: by benchmark, instructions of each kind: asked so often, followed by base and candidate in such a share, and
    how many were lost and won; examples: items that were lost, with both answers under one seed.
    """
    row = _about(rows)
    name = row["name"]
    candidate = _candidate(audit, row)
    comparison, answers = audit.comparison(candidate, name), _answers(audit, candidate, name)
    return {
        "benchmark": name,
        "model": candidate.spec.text,
        "verdict": row["verdict"],
        "items": len(comparison.items),
        "lost": comparison.lost,
        "gained": comparison.gained,
        "subjects": _subjects(row),
        "kinds": {b.name: found for b in audit.basket.skills if (found := _kinds(audit, candidate, b.name))},
        "examples": [_example(audit, name, *one, answers) for one in _picked(audit, comparison, answers)],
    }


def _about(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    regressed = [row for row in rows if row["verdict"] == REGRESSED]
    if regressed:
        return min(regressed, key=lambda row: row["change"])
    return worst([row for row in rows if row["verdict"] == INCONCLUSIVE] or rows)


def _candidate(audit: Judging, row: Mapping[str, Any]) -> CheckedModel:
    """Whom a row is about; of a recipe the run that lost most."""
    named = [c for c in audit.candidates if c.spec.text == row["model"]]
    return named[0] if named else min(audit.candidates, key=lambda c: audit.comparison(c, row["name"]).change.mean())


def _answers(audit: Judging, candidate: CheckedModel, name: str) -> Answers:
    sides = (audit.base, candidate)
    return {seed: tuple(audit.scores(side, name, seed) for side in sides) for seed in audit.written(name)}


def _subjects(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The subjects that fell: those that were shown to first; all of them stand in the benchmark's row."""
    subjects = [dict(group) for group in row.get("groups", {}).get("subjects", ()) if group["change"] < 0]
    return sorted(subjects, key=lambda group: (not group["fell"], group["change"], group["name"]))[:SUBJECTS]


# ---- kinds of instruction --------------------------------------------------------------------------------------------


def _kinds(audit: Judging, candidate: CheckedModel, name: str) -> list[dict[str, Any]]:
    """By kind, the one that lost most of its followers first; empty where none is given, or judged by itself."""
    loaded = audit.benchmarks[name]
    items = [(item, kinds) for item in audit.items(name) if (kinds := loaded.kinds(item))]
    answers = _answers(audit, candidate, name) if items else {}
    cells: dict[str, list[tuple[float, float]]] = {}
    for item, kinds in items:
        flags = [[loaded.followed(item, side[item.id]) for side in sides] for sides in answers.values()]
        if None in (one for sides in flags for one in sides):
            return []
        shares = np.mean(flags, axis=0)  # [sides, kinds], over the seeds
        for kind, base, tuned in zip(kinds, *shares, strict=True):
            cells.setdefault(kind, []).append((float(base), float(tuned)))
    found = []
    for kind, (base, tuned) in ((kind, np.array(cell).T) for kind, cell in sorted(cells.items())):
        shares = {"base": 100 * float(base.mean()), "candidate": 100 * float(tuned.mean())}
        counts = {"lost": int((tuned < base).sum()), "gained": int((tuned > base).sum())}
        found.append({"name": kind, "asked": len(base), **shares, **counts})
    return sorted(found, key=lambda row: (row["gained"] - row["lost"], row["candidate"] - row["base"], row["name"]))


# ---- answers before and after ----------------------------------------------------------------------------------------


def _picked(audit: Judging, comparison: Comparison, answers: Answers) -> list[tuple[Item, int, float, float]]:
    """(item, seed, both scores) of the largest losses, the shortest first; of other kinds or subjects where there are.

    An answer without a word comes last, as it shows the least.
    """
    items, loaded = {item.id: item for item in audit.items(comparison.name)}, audit.benchmarks[comparison.name]
    losses = []
    for column, seed in enumerate(comparison.seeds):
        for at, change in enumerate(comparison.change[:, column] if seed in answers else ()):
            if change < 0:
                item = items[comparison.items[at]]
                told = [loaded.answer(item, side[item.id]) for side in answers[seed]]
                size = len(loaded.question(item)) + sum(map(len, told))
                key = (round(float(change), 3), not all(text.strip() for text in told), size, item.id, seed)
                scores = (float(side[at, column]) for side in (comparison.base, comparison.candidate))
                losses.append((key, (item, seed, *scores)))
    losses = [loss for _, loss in sorted(losses, key=lambda loss: loss[0])]
    picked: list[tuple[Item, int, float, float]] = []
    while losses and len(picked) < EXAMPLES:
        seen = {group for item, *_ in picked for group in _groups(loaded, item)}
        fresh = next((loss for loss in losses if not seen & _groups(loaded, loss[0])), losses[0])
        picked.append(fresh)
        losses = [loss for loss in losses if loss[0].id != fresh[0].id]
    return picked


def _groups(loaded: Judged, item: Item) -> set[str]:
    return set(loaded.kinds(item) or [item.stratum])


def _example(
    audit: Judging, name: str, item: Item, seed: int, base: float, tuned: float, answers: Answers
) -> dict[str, Any]:
    loaded = audit.benchmarks[name]
    before, after = (_kept(loaded.answer(item, side[item.id]), ANSWER) for side in answers[seed])
    return {
        "item": item.id,
        "seed": seed,
        "kinds": loaded.kinds(item),
        "question": _kept(loaded.question(item), QUESTION),
        "before": before,
        "after": after,
        "base": 100 * base,
        "candidate": 100 * tuned,
    }


def _kept(text: str, longest: int) -> str:
    """Cut, and free of what UTF-8 cannot write."""
    text = text.encode("utf-8", "replace").decode("utf-8").strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"
