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

import pytest
from _pytest.mark.expression import Expression

from harness.specs import Basket, Unusable, check_seeds, load_basket, with_options

pytest_plugins = ["fixtures.gates"]

QUICK = Path(__file__).parent / "fixtures" / "baskets" / "quick.toml"
NO_VERDICT = 3  # the run broke: pytest's own status for an internal error
CANARIES = ("effect", "repeat", "damaged")
GATES = ("forgetting",)
INCOMPLETE = 10  # BLOCKED, as a benchmark that was not judged is inconclusive

NO_ERROR = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception, KeyboardInterrupt)

AUDIT = pytest.StashKey()
WATCHER = pytest.StashKey()
BROKEN = pytest.StashKey()


@pytest.fixture(scope="session")
def audit(pytestconfig):
    """The prepared audit: checked models, loaded benchmarks, the store. Models load once a worker."""
    return pytestconfig.stash[AUDIT]


def pytest_addoption(parser):
    group = parser.getgroup("lethe", "release gate")
    group.addoption("--base", metavar="SPEC", help="the model before fine-tuning (default: embedded:base)")
    group.addoption("--candidate", metavar="SPEC", action="append", help="a fine-tune to judge; repeatable")
    group.addoption("--basket", metavar="FILE", type=Path, default=QUICK, help="benchmarks and margins (TOML)")
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
    group.addoption("--mitigate", metavar="none", help="mitigations to try (default: none)")
    group.addoption(
        "--trust-remote-code", action="store_true", default=None, help="allow code from a model's repository"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "xdist_group(name): tests of one group run on one worker")
    if config.option.help or not gate_selected(config, "forgetting"):
        return
    try:
        config.stash[AUDIT] = _prepare(config)
    except Unusable as error:
        raise pytest.UsageError(str(error)) from None


def gate_selected(config, gate: str) -> bool:
    """True if the marker expression asks for this gate by name."""
    expression = config.option.markexpr or ""
    if gate not in expression:
        return False
    return Expression.compile(expression).evaluate(lambda name, **_: name == gate)


def pytest_ignore_collect(collection_path, config):
    """A run of gates alone imports no other test."""
    if (config.option.markexpr or "").strip() in GATES and collection_path.suffix == ".py":
        return None if "gates" in collection_path.parts else True
    return None


def _prepare(config):
    from fixtures import embedded
    from harness.assets import cache_dir
    from harness.audit import Options, prepare

    basket = _basket(config)
    said = {key: value for key, value in basket.run.items() if getattr(config.option, key, None) in (None, [])}
    option = {key: said.get(key, getattr(config.option, key, None)) for key in (*basket.run, *vars(config.option))}
    if option.get("mitigate") not in (None, "none"):
        raise Unusable(f"--mitigate {option['mitigate']}: no mitigation is built in; write --mitigate none.")
    if any(b.task == "lethe_chemistry" for b in basket.benchmarks):
        with _visible(config):
            embedded.chemistry_data()
    candidates = option["candidate"] or []
    if not candidates:
        raise Unusable(
            "no candidate to judge; name one with --candidate SPEC (the embedded one: --candidate embedded:chemistry)."
        )
    options = Options(
        base=option["base"] or "embedded:base",
        candidates=tuple([candidates] if isinstance(candidates, str) else candidates),
        out=Path(option["out"] or "out"),
        store=Path(option["store"] or cache_dir() / "store"),
        backend=option["backend"] or "hf",
        device=_worker_device(option["device"] or "auto"),
        dtype=option["dtype"] or "auto",
        trust_remote_code=bool(option["trust_remote_code"]),
        recipe=bool(option["recipe"]),
    )
    with _visible(config):
        return prepare(basket, options)


def _basket(config) -> Basket:
    margins = {}
    for text in config.option.margin:
        name, _, value = text.partition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            raise Unusable(f"--margin {text} is no NAME=POINTS; write as in --margin ifeval=5.") from None
    seeds = None
    if config.option.seeds is not None:
        words = [word for word in config.option.seeds.split(",") if word.strip()]
        if not all(word.strip().isdecimal() for word in words):
            raise Unusable(f"--seeds {config.option.seeds} are no whole numbers; write as in --seeds 0,1,2.")
        seeds = check_seeds([int(word) for word in words], "--seeds")
    return with_options(load_basket(config.option.basket), seeds, margins, config.option.stop_early)


def _worker_device(device: str) -> str:
    """One GPU per xdist worker where the user left the choice to us; CPU workers share the cores."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker or device not in ("auto", "cuda"):
        return device
    import torch

    number = int(worker.removeprefix("gw"))
    if torch.cuda.is_available():
        return f"cuda:{number % torch.cuda.device_count()}"
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
    return device


@contextlib.contextmanager
def _visible(config):
    """Lets downloads and conversions show their bars."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        yield


def _is_worker(config) -> bool:
    return hasattr(config, "workerinput")


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
    for name in ("verdict.json", "scores.jsonl"):  # what an earlier run left would outlive one that breaks
        (audit.options.out / name).unlink(missing_ok=True)
    from harness.report.progress import Watcher

    with _visible(config):
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    config.stash[WATCHER] = Watcher(audit, stream)
    config.stash[WATCHER].start()


def pytest_generate_tests(metafunc):
    audit = metafunc.config.stash.get(AUDIT, None)
    if metafunc.definition.get_closest_marker("forgetting") is None or audit is None:
        return
    if "cell" in metafunc.fixturenames:
        work = list(audit.work())
        ids = [f"{side}-{name}-seed{seed}" for side, name, seed in work]
        metafunc.parametrize("cell", work, ids=ids)
    if "canary" in metafunc.fixturenames:
        metafunc.parametrize("canary", CANARIES)
    if "judged" in metafunc.fixturenames:
        pairs = [(n, b.name) for n in range(len(audit.subjects)) for b in audit.basket.skills]
        metafunc.parametrize(
            "judged", pairs, ids=[f"candidate{'' if n == 0 else f'-{n + 1}'}-{name}" for n, name in pairs]
        )


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


def pytest_terminal_summary(terminalreporter, config):
    if config.stash.get(AUDIT, None) is None:
        return
    from harness.report.terminal import verdict_lines

    audit = config.stash[AUDIT]
    document = _property(terminalreporter, "lethe_verdict")
    terminalreporter.section("verdict")
    if document is not None and config.stash.get(BROKEN, None) is None:
        for line in verdict_lines(json.loads(document)):
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"written to {audit.options.out}/verdict.json")
        return
    judged = len(set(_properties(terminalreporter, "lethe_judged")))
    planned = len(audit.basket.skills) * len(audit.subjects)
    errors = _properties(terminalreporter, "lethe_error")
    why = f"the run broke: {errors[0]}" if errors else f"{judged} of {planned} benchmarks judged"
    terminalreporter.write_line(
        f"NO DECISION (exit {config.stash.get(BROKEN, INCOMPLETE)}): {why}; nothing may ship on this."
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    config = session.config
    if config.stash.get(WATCHER, None):
        config.stash[WATCHER].stop()
    if config.stash.get(AUDIT, None) is None or _is_worker(config) or config.option.collectonly:
        return
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if int(exitstatus) not in (0, 1):
        return
    if statuses := _properties(reporter, "lethe_status"):
        config.stash[BROKEN] = session.exitstatus = max(statuses)
        return
    document = _property(reporter, "lethe_verdict")
    failed = reporter.stats.get("failed", []) + reporter.stats.get("error", [])
    planned = len(config.stash[AUDIT].basket.skills) * len(config.stash[AUDIT].subjects)
    judged = _properties(reporter, "lethe_judged")
    if document is None or len(set(judged)) < planned:
        config.stash[BROKEN] = session.exitstatus = (
            1 if "REGRESSED" in _properties(reporter, "lethe_kind") else INCOMPLETE
        )
        return
    status = json.loads(document)["exit"]
    if status == 0 and failed:
        config.stash[BROKEN] = status = NO_VERDICT
    session.exitstatus = status


def _properties(reporter, name: str) -> list:
    """Values of a recorded property over all finished tests; they travel from xdist's workers, state does not."""
    reports = [r for group in ("passed", "failed", "error") for r in reporter.stats.get(group, [])]
    return [value for r in reports for key, value in getattr(r, "user_properties", []) if key == name]


def _property(reporter, name: str):
    values = _properties(reporter, name)
    return values[-1] if values else None
