"""The command line of the gates: options, header, terminal summary and exit status.

A gate runs where the marker expression selects it (`pytest -m forgetting`). All that can be wrong with its input is
found here, before collection, and ends in one sentence and exit status 4.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fixtures.prepared import out_folder, prepared, visible
from fixtures.run_status import NO_VERDICT, UNUSABLE, Record, collect_results, leave_reports, refuse
from fixtures.selection import GATES, gate_selected
from harness.report.files import remove_verdict
from harness.report.terminal import verdict_lines
from harness.specs import Unusable

pytest_plugins = [
    "fixtures.gates",
    "fixtures.mitigations",
    "fixtures.allure_cases",
    "fixtures.gate_session",
    "fixtures.dpo_gate",
    "fixtures.reward_gate",
    "fixtures.ticket_gate",
]

NOTHING_RAN = 5

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
    group.addoption("--seeds", metavar="0,1,2", help="evaluation seeds; of a training gate, training seeds")
    group.addoption(
        "--margin", metavar="NAME=POINTS", action="append", default=[], help="largest loss allowed; repeatable"
    )
    group.addoption(
        "--stop-early", action="store_true", help="stop a benchmark once it is decided (default: the basket's policy)"
    )
    group.addoption(
        "--recipe", action="store_true", default=None, help="the candidates are training runs of one recipe"
    )
    group.addoption(
        "--greedy", action="store_true", default=None, help="sample nothing, whatever temperature the basket asks for"
    )
    group.addoption("--backend", metavar="hf|vllm[:KEY=VALUE,…]", help="what runs the models (default: hf)")
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


@pytest.hookimpl(tryfirst=True)  # before allure-pytest, which reads there where its results go
def pytest_configure(config):
    if config.option.help or not gate_selected(config, "forgetting"):
        return
    try:
        config.stash[AUDIT] = prepared(config)
    except Unusable as error:
        if not _is_worker(config) and not config.option.collectonly:
            with visible(config):
                if said := refuse(out_folder(config), str(error)):
                    print(said, flush=True)
        raise pytest.UsageError(str(error)) from None
    audit = config.stash[AUDIT]
    if not config.option.collectonly:
        collect_results(config, audit.options.out, first=not _is_worker(config))
    config.stash[RECORD] = Record(len(audit.basket.skills) * len(audit.subjects), worker=_is_worker(config))
    config.pluginmanager.register(config.stash[RECORD], "lethe-record")


def pytest_ignore_collect(collection_path, config):
    """A run of one gate alone imports no other test."""
    gate = (config.option.markexpr or "").strip()
    if gate in GATES and collection_path.suffix == ".py":
        return None if collection_path.parts[-2:] == ("gates", f"test_{gate}.py") else True
    return None


def _is_worker(config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from fixtures.scheduling import scheduler

    audit = config.stash.get(AUDIT, None)
    return scheduler(config, log, audit.policy.stopping == "early", audit.whole) if audit else None


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
    remove_verdict(audit.options.out)
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
    if not any(item.get_closest_marker(gate) for gate in GATES):
        return report
    if report.skipped or hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped or expected to fail, and a gate that did not run has not passed."
        vars(report).pop("wasxfail", None)
    if call.excinfo is not None and not call.excinfo.errisinstance(NO_ERROR):
        report.user_properties.append(("lethe_error", call.excinfo.exconly()))
        unusable = call.excinfo.errisinstance(Unusable)
        report.user_properties.append(("lethe_status", UNUSABLE if unusable else NO_VERDICT))
        if unusable:
            report.longrepr = call.excinfo.exconly()
    return report


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session, exitstatus):
    """Settles the status before other plugins write their files, and has the last word on it after them."""
    config = session.config
    if config.stash.get(WATCHER, None):
        config.stash[WATCHER].stop()
    audit = config.stash.get(AUDIT, None)
    if audit is None or _is_worker(config):
        return (yield)
    record = config.stash[RECORD]
    record.settle(NOTHING_RAN if config.option.collectonly and not exitstatus else int(exitstatus))
    if not config.option.collectonly:
        leave_reports(config, record, audit)
    result = yield
    session.exitstatus = record.status
    if exitstatus == pytest.ExitCode.INTERNAL_ERROR and (
        reporter := config.pluginmanager.getplugin("terminalreporter")
    ):
        pytest_terminal_summary(reporter, config)  # which pytest leaves out then
    return result


def pytest_terminal_summary(terminalreporter, config):
    if config.stash.get(AUDIT, None) is None:
        return
    audit, record = config.stash[AUDIT], config.stash[RECORD]
    terminalreporter.section("verdict")
    for line in verdict_lines(record.document) if record.decided else [record.last_line]:
        terminalreporter.write_line(line)
    if record.decided:
        out = audit.options.out
        terminalreporter.write_line(f"written to {out}: memo.pdf, summary.md, verdict.json, allure-results")
    if record.annotation:
        terminalreporter.write_line(record.annotation)
