"""Reports of audits that have run, without their models.

python -m harness.report --from out/scores.jsonl [--margin ifeval=3] [--out DIR]
    judges a stored audit again and writes its reports; ends with the exit status of the gate
python -m harness.report history out/step-1 out/step-2 … [--out DIR]
    several audits of successive fine-tunes against the original base: what was lost since
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from harness.command_line import BROKEN, UNUSABLE, Arguments
from harness.report.summary import annotation
from harness.specs import Unusable


def main(given: Sequence[str]) -> int:
    """Runs one command; returns its exit status."""
    try:
        return follow(given[1:]) if given[:1] == ["history"] else judge(given)
    except Unusable as error:
        print(f"ERROR: {error}", file=sys.stderr)
        if said := annotation(UNUSABLE, str(error), os.environ):
            print(said)
        return UNUSABLE
    except Exception:  # Python would end with 1, which says that something regressed
        traceback.print_exc()
        return BROKEN


def judge(given: Sequence[str]) -> int:
    from harness.baskets import read_margins
    from harness.report import again, summary
    from harness.report.terminal import decision_line, verdict_lines

    parser = Arguments(prog="python -m harness.report", description="Judges a stored audit again.")
    parser.add_argument("--from", dest="scores", type=Path, required=True, metavar="SCORES", help="its scores.jsonl")
    parser.add_argument("--margin", action="append", default=[], metavar="NAME=POINTS", help="largest loss allowed")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: 'again' beside the scores)")
    options = parser.parse_args(given)
    folder = options.scores if options.scores.is_dir() else options.scores.parent
    out = options.out or folder / "again"
    before = again.read_verdict(folder / "verdict.json")
    made = again.judge_again(options.scores, out, read_margins(options.margin))
    if made["code"] != before["code"]:
        print("judged by other code than the run's, so that numbers may differ from its verdict")
    summary.write(out, summary.summary(made), os.environ)
    print(*verdict_lines(made), f"written to {out}: memo.pdf, summary.md, verdict.json", sep="\n")
    if said := summary.annotation(made["exit"], decision_line(made), os.environ):
        print(said)
    return made["exit"]


def follow(given: Sequence[str]) -> int:
    from harness.report import history

    parser = Arguments(prog="python -m harness.report history", description="Compares audits of successive fine-tunes.")
    parser.add_argument("audits", nargs="+", type=Path, metavar="DIR", help="--out of each audit, the first step first")
    parser.add_argument("--out", type=Path, default=Path("out/history"), metavar="DIR", help="default: out/history")
    options = parser.parse_args(given)
    found = history.read(options.audits)
    print(*history.lines(found), sep="\n")
    for path in history.write(found, options.out):
        print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
