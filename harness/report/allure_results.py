"""The folder of Allure results: emptied before a run, finished after it, so that it says what the exit status says.

allure-pytest writes a file for each case. What no single case can know is added here: the decision stands first and as
the run ended, models and versions, who ran it, and the categories of what failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.report import escape
from harness.report.allure import DECISION_FEATURE, SUMMARY

FOLDER = "allure-results"  # in --out
PYTESTS = "Failed: "  # what pytest writes before the message of pytest.fail

# by the first words of a message, which are ours; `(Failed: )?` as pytest writes them. What an audit's decision names
# first has regressed; the decisions of the siblings' gates say "missed", or why they block.
CATEGORIES = [
    {
        "name": "Regressed: shown to have lost more than the margin",
        "matchedStatuses": ["failed"],
        "messageRegex": r"^(Failed: )?(REGRESSED: |BLOCKED \(exit 1\): [^;]* regressed)[\s\S]*",
    },
    {
        "name": "Missed: shown to be below the target, or blocked by a diagnostic",
        "matchedStatuses": ["failed"],
        "messageRegex": r"^(Failed: )?(MISSED: |BLOCK: |BLOCKED \(exit 1\): (?![^;]* regressed))[\s\S]*",
    },
    {
        "name": "Inconclusive: the data cannot tell",
        "matchedStatuses": ["failed"],
        "messageRegex": r"^(Failed: )?(INCONCLUSIVE: |NOT ASKED: |BLOCKED \(exit 10\))[\s\S]*",
    },
    {
        "name": "Mitigation not shown to close the gap",
        "matchedStatuses": ["failed"],
        "messageRegex": r"^(Failed: )?\S+: (closes the gap|could not be tried): [\s\S]*",
    },
    {"name": "Run error: no verdict", "matchedStatuses": ["broken"]},
]


Result = dict[str, Any]


def empty(folder: Path) -> None:
    """Removes the results of an earlier run, which Allure would show as retries of this one."""
    for path in folder.glob("*") if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            path.unlink()


def finish(folder: Path, decision: str, undecided: str | None) -> None:
    """Puts the decision first and drops what says nothing. Called once, when every case is written.

    decision: full name of the case of the decision; undecided: why the run ended without one, which then replaces
    whatever that case says; None if it was decided.
    """
    results = dict(_results(folder))
    if undecided is not None:
        path = next((p for p, r in results.items() if r.get("fullName") == decision), folder / "undecided-result.json")
        for attached in results.get(path, {}).get("attachments", ()):  # they say what that case has said
            (folder / Path(attached["source"]).name).unlink(missing_ok=True)
        results[path] = _overruled(results.get(path) or _missing(decision), undecided)
    starts = [result["start"] for result in results.values() if "start" in result]
    for path, result in results.items():
        if result.get("fullName") == decision and starts:  # it is about the whole run, and Allure lists by time
            first = min(starts) - 1
            result |= {"start": first, "stop": result.get("stop", first)}
        _say_once(result)
        _write(path, json.dumps(result, ensure_ascii=False))
    for path in folder.glob("*-container.json"):  # set-up of fixtures: times of our own functions
        path.unlink()


def _results(folder: Path) -> Iterator[tuple[Path, Result]]:
    for path in sorted(folder.glob("*-result.json")):
        yield path, json.loads(path.read_text(encoding="utf-8"))


def _overruled(result: Result, why: str) -> Result:
    """A case of the decision that says nothing but that there is none."""
    kept = {k: v for k, v in result.items() if k not in ("attachments", "descriptionHtml", "description", "steps")}
    return kept | {
        "name": "NO DECISION",
        "status": "broken",
        "statusDetails": {"message": escape.printable(why)},
        "description": "The run did not end with a verdict; nothing may ship on it.",
    }


def _missing(decision: str) -> Result:
    """A case for a decision that no test came to, with the identity that it would have had."""
    digest = hashlib.md5(decision.encode()).hexdigest()
    labels = {"epic": SUMMARY, "feature": DECISION_FEATURE, "severity": "blocker"}
    return {
        "uuid": str(uuid.UUID(digest)),
        "historyId": digest,
        "testCaseId": digest,
        "fullName": decision,
        "labels": [{"name": key, "value": value} for key, value in labels.items()],
    }


def _say_once(result: Result) -> None:
    """The reason alone where pytest's message and its trace are the same words."""
    details = result.get("statusDetails") or {}
    message = details.get("message", "").removeprefix(PYTESTS)
    if result["status"] == "failed" and details.get("trace") == message:
        result["statusDetails"] = {"message": message}


# ---- beside the cases ------------------------------------------------------------------------------------------------


def describe(folder: Path, about: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """Writes environment, executor and categories. about: as `document.header`; variables: of the environment."""
    pairs = (f"{escape.java_property(k)}={escape.java_property(v)}\n" for k, v in environment(about).items())
    _write(folder / "environment.properties", "".join(pairs))
    _write(folder / "executor.json", json.dumps(executor(variables), indent=1))
    _write(folder / "categories.json", json.dumps(CATEGORIES, indent=1))


def environment(about: Mapping[str, Any]) -> dict[str, str]:
    """What was run: models and digests, basket, policy, device, versions. about: `document.header`'s keys."""
    models = [("Base", about["base"])]
    models += [(f"Candidate {n}".removesuffix(" 1"), c) for n, c in enumerate(about["candidates"], 1)]
    found = {}
    for label, model in models:
        found |= {label: escape.one_line(model["spec"]), f"{label} digest": model["digest"][:12]}
    found["Basket"] = about["basket"]
    for prefix, part in (("", "run"), ("Policy ", "policy"), ("Package ", "packages")):
        found |= {f"{prefix}{key}".capitalize(): str(value) for key, value in sorted(about[part].items())}
    return found | {"Code digest": about["code"][:12]}


def executor(variables: Mapping[str, str]) -> dict[str, Any]:
    """Who ran it, from a CI system's environment variables; a person's machine otherwise."""
    if variables.get("GITHUB_ACTIONS") == "true":
        url = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}"
        kind, label = "github", "GitHub Actions"
        number, build = "GITHUB_RUN_NUMBER", "{GITHUB_WORKFLOW} #{GITHUB_RUN_NUMBER}"
    elif variables.get("GITLAB_CI") == "true":
        url, kind, label = "{CI_JOB_URL}", "gitlab", "GitLab CI"
        number, build = "CI_PIPELINE_IID", "{CI_JOB_NAME} #{CI_PIPELINE_IID}"
    else:
        return {"name": "by hand", "type": "local", "reportName": "Lethe"}
    known = _Blank(variables)
    found = {"name": label, "type": kind, "reportName": "Lethe"}
    found |= {"buildName": build.format_map(known), "buildUrl": url.format_map(known)}
    order = variables.get(number, "")
    return found | ({"buildOrder": int(order)} if order.isdecimal() else {})


class _Blank(dict):
    """Variables that are not set are empty."""

    def __missing__(self, key: str) -> str:
        return ""


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
