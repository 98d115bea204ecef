"""The Allure report of the last audit as one HTML file that opens anywhere: no server, no network, no analytics.

    python -m harness.report.allure_page [--results out/allure-results] [--page out/allure.html]

Allure's own command line turns results into pages; it runs on Node.js and is fetched once, pinned, into the project's
cache. Its pages load a visitor counter, for which it has no switch: that is cut out, and a page in which another script
or picture would come from elsewhere is not written. The page opens on the decision. The history of earlier audits is
kept beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.assets import cache_dir, publish
from harness.command_line import UNUSABLE, Arguments
from harness.report.allure import DECISION_FEATURE, SUMMARY
from harness.report.allure_results import CATEGORIES, Result
from harness.specs import Unusable

ALLURE = "3.18.0"
NODE = 20  # the oldest major version that this Allure runs on
HISTORY = "allure-history.jsonl"  # beside the page; one line an audit
RUNS = 50  # audits that the history keeps
NOISE = ("host", "thread", "framework", "language", "package", "parentSuite", "suite", "subSuite")

COUNTER = re.compile(
    r"\s*<script async src=\"https://www\.googletagmanager\.com/[^>]*></script>\s*<script>.*?</script>", re.S
)
LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.I)
# A share of passed cases says nothing of a release, and two audits that differ judged two models: no case is "flaky".
# Allure cannot measure a page inside the page where both come from a file, and would show a strip of it.
LOOK = (
    'article:has(>[aria-label^="Success rate"]),[data-testid=flaky-filter],[data-testid$=-flaky],'
    'div:has(>svg>path[d^="m13.878 6.12"]){display:none!important}'  # the icon beside the word, which has no name
    "[data-testid=html-attachment-preview] iframe{height:75vh}"
)
OPEN = """(function () {
  try {
    var open = JSON.parse(localStorage.getItem("expandedTrees") || "[]");
    localStorage.setItem("expandedTrees", JSON.stringify(Array.from(new Set(open.concat(GROUPS)))));
  } catch (error) {}
  if (!location.hash && CASE) location.hash = CASE;
})()"""
GET_NODE = (
    "install Node.js {node} or newer with npm (Debian 13 or Ubuntu 25.04 and later: apt-get install nodejs npm; macOS:"
    " brew install node) and run this again"
)


def build(results: Path, page: Path) -> Path:
    """Writes the page of a folder of results; `Unusable` where there are none, or no Node.js to do it with."""
    first = _decision(results)
    program = allure()
    history = page.parent / HISTORY
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        forget(history, first)
        settings = Path(scratch) / "allurerc.json"
        settings.write_text(json.dumps(config(first["name"], Path(scratch) / "made", history)), encoding="utf-8")
        _run([*program, "generate", "--config", str(settings), str(results.resolve())], scratch)
        made = _index(Path(scratch) / "made").read_text(encoding="utf-8")
    unfinished = page.with_name(f".{page.name}")
    unfinished.write_text(opening(without_counter(made), _recorded(history, first)), encoding="utf-8")
    unfinished.replace(page)
    return page


def config(title: str, output: Path, history: Path) -> dict[str, Any]:
    """Allure's settings: one file, by epic and feature, the numbered epics in their order. title: of the page."""
    options = {
        "reportName": f"Lethe, {title}",
        "singleFile": True,
        "reportLanguage": "en",
        "theme": "light",
        "layout": "split",
        "groupBy": ["epic", "feature", "story"],
        "defaultSortBy": "name,asc",
    }
    return {
        "name": f"Lethe, {title}",
        "output": str(output),
        "historyPath": str(history.resolve()),
        "historyLimit": RUNS,
        "hideLabels": list(NOISE),
        "categories": CATEGORIES,
        "plugins": {"awesome": {"options": options}},
    }


def without_counter(page: str) -> str:
    """A page with the visitor counter cut out; `Unusable` if something else in it would be loaded from elsewhere."""
    kept = COUNTER.sub("", page)
    if found := LOADED.search(kept) or re.search(r"googletagmanager|google-analytics", kept):
        raise Unusable(
            f"Allure {ALLURE} wrote a page that would load '{found.group()[:80]}' from the network; it was thrown away,"
            " so use the Allure that this project pins."
        )
    return kept


def forget(history: Path, decision: Result) -> None:
    """Takes an audit out of the history, so that a page made twice does not show it as two runs."""
    if history.is_file():
        lines = [line for line in history.read_text(encoding="utf-8").splitlines() if line.strip()]
        kept = [line for line in lines if _case_of(line, decision) is None]
        history.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def opening(page: str, case: str | None) -> str:
    """A page that opens on a case, with its group unfolded. case: Allure's id of it."""
    groups = [_group(SUMMARY), _group(f"{_group(SUMMARY)}.{DECISION_FEATURE}")]
    script = OPEN.replace("GROUPS", json.dumps(groups)).replace("CASE", json.dumps(case or ""))
    return page.replace("</head>", f"<style>{LOOK}</style><script>{script}</script></head>", 1)


def _group(path: str) -> str:
    """Allure's id of a group of its tree."""
    return hashlib.md5(path.encode()).hexdigest()


def _recorded(history: Path, decision: Result) -> str | None:
    """Allure's id of the decision, as it has just put it into the history."""
    lines = history.read_text(encoding="utf-8").splitlines() if history.is_file() else []
    return _case_of(lines[-1], decision) if lines else None


def _case_of(line: str, decision: Result) -> str | None:
    """The id that the decision has in a line of the history; None if the line is of another run."""
    for case in json.loads(line)["testResults"].values():
        if (case["fullName"], case.get("start")) == (decision["fullName"], decision.get("start")):
            return case["id"]
    return None


def _decision(results: Path) -> Result:
    """The case that stands first; `Unusable` where there is none."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*-result.json"))]
    if not found:
        raise Unusable(f"--results {results} holds no Allure results; run an audit first, as with make audit.")
    return min(found, key=lambda result: result.get("start", 0))


# ---- Allure's command line -------------------------------------------------------------------------------------------


def allure() -> list[str]:
    """The command that runs Allure, fetched into the cache where it is not; `Unusable` with what to install."""
    node, npm = shutil.which("node"), shutil.which("npm")
    cli = cache_dir() / f"allure-{ALLURE}" / "node_modules" / "allure" / "cli.js"
    if node is None or (npm is None and not cli.is_file()):
        missing = "Node.js" if node is None else "npm"
        raise Unusable(f"the Allure page needs {missing}, which is not there; {GET_NODE.format(node=NODE)}.")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    if int(re.sub(r"^v(\d+).*", r"\1", version) or 0) < NODE:
        raise Unusable(f"the Allure page needs a newer Node.js than {version}; {GET_NODE.format(node=NODE)}.")
    if not cli.is_file():
        publish(cli.parents[2], lambda folder: _fetch(npm, folder))
    return [node, str(cli)]


def _fetch(npm: str, folder: Path) -> None:
    print(f"fetching Allure {ALLURE} into the cache, once …", flush=True)
    given = ["install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", f"allure@{ALLURE}"]
    _run([npm, *given], str(folder))


def _run(command: Sequence[str], folder: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"CI": ""})
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Unusable(
            f"'{Path(command[0]).name} {' '.join(command[1:3])}' failed ({said}); check the versions of Node.js and"
            " npm, and the network on the first run."
        )


def _index(made: Path) -> Path:
    """The page that Allure wrote, in its folder or that of its plugin."""
    found = sorted(made.rglob("index.html"), key=lambda path: len(path.parts))
    if not found:
        raise Unusable(f"Allure {ALLURE} wrote no page; check the version of Node.js.")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = Arguments(prog="python -m harness.report.allure_page", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("out/allure-results"), metavar="DIR")
    parser.add_argument("--page", type=Path, metavar="FILE", help="default: allure.html beside the results")
    try:
        given = parser.parse_args(arguments)
        print(build(given.results, given.page or given.results.parent / "allure.html"))
    except Unusable as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
