"""A submission from archive to grade: unpacked, run twice in the sandbox, its replies judged, its base beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.jsonl import write
from harness.submission import grading, sandbox
from harness.submission.archive import Refused, unpack
from harness.submission.contract import Inputs, Limits
from harness.submission.grading import Grade, grade, same_predictions
from harness.submission.judge import Judge, Noise, measure_noise, similarities
from harness.submission.results import Results, nothing, read_results
from harness.submission.sandbox import Outcome
from harness.submission.tickets import HiddenRow, Taxonomy

UNTUNED = ("--epochs", "0")  # what the reference submission takes for: predict with the base as it is


@dataclass(frozen=True)
class Challenge:
    """What every submission is graded by.

    train: the JSONL that it learns from; hidden: the rows that grade, and the file they are in; weights: the base's
    directory; threshold: of the total, in [0, 1]; alpha: error rate of each bound; seed: of both runs.
    """

    taxonomy: Taxonomy
    hidden: Sequence[HiddenRow]
    hidden_file: Path
    train: Path
    weights: Path
    limits: Limits
    threshold: float = 0.5
    alpha: float = 0.05
    seed: int = 0

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.hidden]


@dataclass(frozen=True)
class Assessment:
    """What a submission came to.

    failure: why it was refused or did not run, else None; outcomes: of its runs; results: of the first; differing: ids
    that the second run answered otherwise; verdict: of the total on the threshold; base: the grade of the untuned base.
    """

    grade: Grade
    verdict: str
    failure: str | None
    outcomes: Sequence[Outcome]
    results: Results
    differing: Sequence[str]
    judge: str
    noise: Noise | None
    base: Grade | None = None


def assess(
    submission: Path,
    challenge: Challenge,
    judge: Judge,
    *,
    proxy: Path | None = None,
    reference: Path | None = None,
) -> Assessment:
    """Grades a zip or a folder. What the submission does wrong is graded; what the host lacks raises `Unusable`.

    proxy: the socket of a metering proxy that it may call; reference: the folder of the reference submission, which
    then shows what the untuned base would earn.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Inputs(challenge.train, _asked(challenge, Path(scratch)), challenge.weights)
        try:
            folder = unpack(submission, Path(scratch) / "submission")
        except Refused as error:
            outcomes, failure = [], str(error)
        else:
            outcomes, failure = _runs(folder, inputs, challenge, proxy)
        base = _base(reference, inputs, challenge, judge, Path(scratch)) if reference else None
    read = [_results(outcome, challenge) for outcome in outcomes] or [nothing(challenge.ids, failure or "")]
    differing = same_predictions(*read) if len(read) == 2 else []
    seconds = max((outcome.seconds for outcome in outcomes), default=0.0)
    found = _grade(read[0], seconds, not differing, challenge, judge)
    verdict = grading.judge(found, challenge.threshold)
    noise = measure_noise(judge, challenge.hidden, read[0])
    return Assessment(found, verdict, failure, outcomes, read[0], differing, judge.name, noise, base)


def _asked(challenge: Challenge, scratch: Path) -> Path:
    """The hidden rows as a submission sees them: in its folder of their own, without anything but id and ticket."""
    path = scratch / "asked.jsonl"
    rows = [{"id": row.id, "ticket": row.ticket} for row in challenge.hidden]
    write(path, rows)
    path.chmod(0o644)
    return path


def _runs(folder: Path, inputs: Inputs, challenge: Challenge, proxy: Path | None) -> tuple[list[Outcome], str | None]:
    """Two runs with one seed, or one if that failed; and why a run failed."""
    made = []
    for _ in range(2):
        made.append(_run(folder, inputs, challenge, proxy))
        if made[-1].failure:
            break
    return made, made[-1].failure


def _run(folder: Path, inputs: Inputs, challenge: Challenge, proxy: Path | None = None, more: Sequence[str] = ()):
    unseen = [challenge.hidden_file]
    return sandbox.run(folder, inputs, challenge.limits, seed=challenge.seed, proxy=proxy, more=more, unseen=unseen)


def _results(outcome: Outcome, challenge: Challenge) -> Results:
    if outcome.failure:
        return nothing(challenge.ids, outcome.failure)
    return read_results(outcome.results, challenge.ids)


def _grade(results: Results, seconds: float, reproducible: bool, challenge: Challenge, judge: Judge) -> Grade:
    alike = similarities(judge, challenge.hidden, results)
    return grade(challenge.hidden, results, alike, challenge.taxonomy, seconds, reproducible, challenge.alpha)


def _base(reference: Path, inputs: Inputs, challenge: Challenge, judge: Judge, scratch: Path) -> Grade:
    """The untuned base, asked as the reference submission asks; a failure here is the host's, and breaks the run."""
    outcome = _run(unpack(reference, scratch / "reference"), inputs, challenge, more=UNTUNED)
    if outcome.failure:
        raise RuntimeError(f"the untuned base could not be run: {outcome.failure}")
    return _grade(_results(outcome, challenge), outcome.seconds, True, challenge, judge)
