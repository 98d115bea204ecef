"""The audited scores as a fragment of a model card: the `model-index` that a hub reads from a README's YAML header.

    write_model_card(json.loads(Path("out/verdict.json").read_text()), Path("out"))       # -> out/model-card.yaml

Each score stands with what the audit says of it: the base's score, the change with its range, margin and verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.report.files import replace_file
from harness.report.foreign import shown
from harness.report.numbers import rounded
from harness.report.verdict_text import digest_of_verdict
from harness.report.words import changed_margins

Document = Mapping[str, Any]
TASK = {"type": "text-generation", "name": "Text Generation"}


def write_model_card(document: Document, out: Path) -> None:
    """Writes model-card.yaml by an atomic rename."""
    replace_file(out / "model-card.yaml", model_card(document).encode())


def model_card(document: Document) -> str:
    """YAML whose first lines, as comments, say the decision: scores are not to be read without it."""
    decided = "every benchmark passed" if document["decision"] == "SHIP" else "not to be released as it is"
    lines = [
        f"# {document['decision']}: {decided}. Audited against {shown(document['base']['spec'], 80, middle=True)}.",
        f"# Scores in points (0-100); verdict.json {digest_of_verdict(document)}",
    ]
    if changed := changed_margins(document):
        lines.append(f"# {changed}")
    index = {**_base(document), "model-index": [_entry(document, c["spec"]) for c in document["candidates"]]}
    text = yaml.safe_dump(index, sort_keys=False, allow_unicode=True, width=100)
    return "\n".join(lines) + "\n" + text


def _base(document: Document) -> dict[str, str]:
    """The hub id of the base, where it has one."""
    if document["base"].get("kind") != "hub":
        return {}
    adapters = all(candidate["adapter"] for candidate in document["candidates"])
    return {
        "base_model": document["base"]["spec"].partition("@")[0],
        "base_model_relation": "adapter" if adapters else "finetune",
    }


def _entry(document: Document, candidate: str) -> dict[str, Any]:
    rows = [row for row in (*document["benchmarks"], *document["training_runs"]) if row["model"] == candidate]
    domains = [row for row in document["domain"] if row["model"] == candidate]
    return {"name": candidate, "results": [_result(row) for row in (*rows, *domains)]}


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    """verdict, margin: not of a domain set, whose gain is not judged."""
    said: dict[str, Any] = {
        "base": rounded(row["base"]),
        "change": rounded(row["change"]),
        "low": rounded(row["low"]),
        "high": rounded(row["high"]),
        "items": row["items"],
        "seeds": list(row["seeds"]),
    }
    if "verdict" in row:
        said |= {"margin": row["margin"], "verdict": row["verdict"]}
    return {
        "task": dict(TASK),
        "dataset": {"type": row["task"], "name": row["name"], "revision": row["digest"]},
        "metrics": [
            {"type": row["metric"], "name": _plain(row["metric"]), "value": rounded(row["candidate"]), "args": said}
        ],
    }


def _plain(metric: str) -> str:
    return metric.replace("_", " ").replace(",", ", ")
