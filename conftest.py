"""The command line of the gates: options, header, terminal summary and exit status.

A gate runs where the marker expression selects it (`pytest -m forgetting`). All that can be wrong with its input is
found here, before collection, and ends in one sentence and exit status 4.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression

from fixtures.prepared import prepared, visible
from harness.specs import Unusable

pytest_plugins = ["fixtures.gates", "fixtures.mitigations"]

NO_VERDICT = 3  # the run broke: pytest's own status for an internal error
NOTHING_RAN = 5
GATES = ("forgetting",)
MADE_FROM_THE_VERDICT = ("memo.pdf", "memo.md", "model-card.yaml", "plots/forest.svg", "plots/pareto.svg")
INCOMPLETE = 10  # BLOCKED, as a benchmark that was not judged is inconclusive

NO_ERROR = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception, KeyboardInterrupt)

AUDIT = pytest.StashKey()
WATCHER = pytest.StashKey()
RECORD = pytest.StashKey()


@pytest.fixture(scope="session")
def audit(pytestconfig):
    """The prepared audit: checked models, loaded benchmarks, the store. Models load once a worker."""
    return pytestconfig.stash[AUDIT]


def pytest_addoption(parser):
    group = parser.getgroup("lethe", "release gate")
    group.addoption("--base", metavar="SPEC", help="the model before fine-tuning (default: embedded:base)")
    group.addoption("--candidate", metavar="SPEC", action="append", help="a fine-tune to judge; repeatable")
    group.addoption("--basket", metavar="FILE", type=Path, help="benchmarks and margins (TOML; default: quick)")
    group.addoption("--out", metavar="DIR", help="where the reports go (default: out)")
    group.addoption("--store", metavar="DIR", help="where item scores are kept (default: the cache directory)")
    group.addoption("--seeds", metavar="0,1,2", help="evaluation seeds, for every benchmark")
    group.addoption(
        "--margin", metavar="NAME=POINTS", action="append", default=[], help="largest loss allowed; repeatable"
    )
    group.addoption(
        "--stop-early", action="store_true", help="stop a benchmark once it is decided (default: the basket's policy)"
    )
    group.addoption(
        "--recipe", action="store_true", default=None, help="the candidates are training runs of one recipe"
    )
    group.addoption("--backend", metavar="hf", help="what runs the models (default: hf)")
    group.addoption("--device", metavar="auto|cpu|cuda[:i]", help="default: auto")
    group.addoption("--dtype", metavar="auto|float32|bfloat16|float16", help="default: auto")
    group.addoption(
        "--mitigate",
        metavar="merge,replay,isolation|none",
        help="mitigations to try where something regressed (default: all if the basket has a [mitigation] table)",
    )
    group.addoption(
        "--trust-remote-code", action="store_true", default=None, help="allow code from a model's repository"
    )


def pytest_configure(config):
    if config.option.help or not gate_selected(config, "forgetting"):
        return
    try:
        config.stash[AUDIT] = prepared(config)
    except Unusable as error:
        if not _is_worker(config) and not config.option.collectonly:
            _remove_verdict(Path(config.option.out or "out"))
        raise pytest.UsageError(str(error)) from None
    config.stash[RECORD] = Record()
    config.pluginmanager.register(config.stash[RECORD], "lethe-record")


class Record:
    """What the gate's tests reported, in this process or in xdist's workers; `status`: what the run ends with."""

    def __init__(self):
        self.failed, self.status = False, 0
        self._properties: list[tuple[str, Any]] = []

    def pytest_runtest_logreport(self, report):
        self.failed |= report.outcome == "failed"
        if report.when == "???":  # xdist's word for a worker that died: the machine's error, no verdict
            self._properties += [("lethe_died", NO_VERDICT), ("lethe_error", str(report.longrepr))]
        if report.when == "teardown" or report.outcome == "failed":  # a test's properties stand in each of its reports
            self._properties += report.user_properties

    def pytest_collectreport(self, report):
        self.failed |= report.outcome == "failed"

    def all(self, name: str) -> list:
        return [value for key, value in self._properties if key == name]

    @property
    def document(self) -> dict | None:
        """verdict.json's content, if the decision was made."""
        made = self.all("lethe_verdict")
        return json.loads(made[-1]) if made else None

    def settle(self, status: int, planned: int) -> None:
        """pytest's own status and the number of verdicts that there must be -> the run's status."""
        statuses, judged = self.all("lethe_status"), len(set(self.all("lethe_judged")))
        if self.document is None:
            statuses += self.all("lethe_died")
        if status not in (0, 1):
            self.status = status
        elif statuses:
            self.status = max(statuses)
        elif self.document is None or judged < planned:
            self.status = 1 if "REGRESSED" in self.all("lethe_kind") else INCOMPLETE
        else:
            decided = self.document["exit"]
            self.status = NO_VERDICT if decided == 0 and self.failed else decided
            self.decided = self.status == decided

    decided = False


def gate_selected(config, gate: str) -> bool:
    """True if the marker expression asks for this gate by name."""
    expression = config.option.markexpr or ""
    if gate not in expression:
        return False
    try:
        return Expression.compile(expression).evaluate(lambda name, **_: name == gate)
    except SyntaxError as error:
        raise pytest.UsageError(f"-m '{expression}' is no marker expression ({error}); write -m {gate}.") from None


def pytest_ignore_collect(collection_path, config):
    """A run of gates alone imports no other test."""
    if (config.option.markexpr or "").strip() in GATES and collection_path.suffix == ".py":
        return None if "gates" in collection_path.parts else True
    return None


def _is_worker(config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from fixtures.scheduling import scheduler

    return scheduler(config, log) if config.stash.get(AUDIT, None) else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Workers take the digests of served models from here: the last digits of a server may differ when asked again."""
    if audit := node.config.stash.get(AUDIT, None):
        models = (audit.base, *audit.candidates)
        node.workerinput["lethe_digests"] = {m.spec.text: m.digest for m in models if m.spec.kind == "served"}


def pytest_report_header(config):
    if config.stash.get(AUDIT, None):
        from harness.report.terminal import plan_lines

        return plan_lines(config.stash[AUDIT])
    return None


def pytest_sessionstart(session):
    config = session.config
    audit = config.stash.get(AUDIT, None)
    if audit is None or _is_worker(config) or config.option.collectonly:
        return
    _remove_verdict(audit.options.out)
    if not audit.live:
        return
    from harness.report.progress import Watcher

    with visible(config):
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    config.stash[WATCHER] = Watcher(audit, stream)
    config.stash[WATCHER].start()


def pytest_generate_tests(metafunc):
    audit = metafunc.config.stash.get(AUDIT, None)
    if metafunc.definition.get_closest_marker("forgetting") is None or audit is None:
        return
    if "cell" in metafunc.fixturenames:
        work = list(audit.work())
        metafunc.parametrize("cell", work, ids=[f"{side}-{name}-seed{seed}" for side, name, seed in work])
    if "canary" in metafunc.fixturenames:
        metafunc.parametrize("canary", audit.checks or ["none"])
    if "mitigation" in metafunc.fixturenames:
        metafunc.parametrize("mitigation", audit.options.mitigate or ["none"])
    if "judged" in metafunc.fixturenames:
        pairs = [(n, b.name) for n in range(len(audit.subjects)) for b in audit.basket.skills]
        metafunc.parametrize(
            "judged", pairs, ids=[f"candidate{'' if n == 0 else f'-{n + 1}'}-{name}" for n, name in pairs]
        )


def pytest_collection_modifyitems(config, items):
    """Without --mitigate there is no mitigation to judge, without a model no instrument to test, and no case for it."""
    audit = config.stash.get(AUDIT, None)
    if audit is None:
        return
    absent = {"mitigation": not audit.options.mitigate, "canary": not audit.checks}
    items[:] = [item for item in items if not any(absent.get(name) for name in item.fixturenames)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A gate that is skipped or expected to fail has not passed; an error of the machine is no verdict."""
    report = yield
    if item.get_closest_marker("forgetting") is None:
        return report
    if report.skipped or hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped or expected to fail, and a gate that did not run has not passed."
        vars(report).pop("wasxfail", None)
    if call.excinfo is not None and not call.excinfo.errisinstance(NO_ERROR):
        report.user_properties.append(("lethe_error", call.excinfo.exconly()))
        unusable = call.excinfo.errisinstance(Unusable)
        report.user_properties.append(("lethe_status", 4 if unusable else NO_VERDICT))
        if unusable:
            report.longrepr = call.excinfo.exconly()
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    config = session.config
    if config.stash.get(WATCHER, None):
        config.stash[WATCHER].stop()
    audit = config.stash.get(AUDIT, None)
    if audit is None or _is_worker(config):
        return
    record = config.stash[RECORD]
    record.settle(NOTHING_RAN if config.option.collectonly and not exitstatus else int(exitstatus), _planned(audit))
    session.exitstatus = record.status
    if not record.decided and not config.option.collectonly:
        _remove_verdict(audit.options.out)


def pytest_terminal_summary(terminalreporter, config):
    if config.stash.get(AUDIT, None) is None:
        return
    from harness.report.terminal import verdict_lines

    audit, record = config.stash[AUDIT], config.stash[RECORD]
    terminalreporter.section("verdict")
    if record.decided:
        for line in verdict_lines(record.document):
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"written to {audit.options.out}/verdict.json")
        return
    judged, errors = len(set(record.all("lethe_judged"))), record.all("lethe_error")
    why = f"the run broke: {errors[0]}" if errors else f"{judged} of {_planned(audit)} benchmarks judged"
    terminalreporter.write_line(f"NO DECISION (exit {record.status}): {why}; nothing may ship on this.")


def _planned(audit) -> int:
    return len(audit.basket.skills) * len(audit.subjects)


def _remove_verdict(out: Path) -> None:
    """A file that says SHIP must not outlive a run that did not end so."""
    for name in ("verdict.json", "scores.jsonl", *MADE_FROM_THE_VERDICT):
        with contextlib.suppress(OSError):  # the status says it too
            (out / name).unlink(missing_ok=True)
