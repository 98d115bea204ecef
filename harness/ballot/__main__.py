"""Blind head-to-heads on the command line.

python -m harness.ballot make --prompts FILE --base SPEC --candidate SPEC [--editors 3] [--out DIR]
    both models answer, and DIR gets one ballot for each editor; the key stays in DIR/gate
python -m harness.ballot make --answers FILE --base NAME --candidate NAME …
    the same with texts that are already there: JSONL of {"prompt", "base", "candidate"}
python -m harness.ballot judge --key DIR/gate/key.json --votes DIR
    the votes that came back; ends with 0 (PASS), 1 (MISSED), 10 (INCONCLUSIVE) or 4 (cannot be used)
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from harness.ballot import prompts as asked
from harness.ballot import results
from harness.ballot.design import REPEATS
from harness.ballot.judge import judge
from harness.ballot.key import FOLDER, NAME, read_key
from harness.ballot.make import TARGET, check_design, check_out, make, new_key, plan_lines
from harness.ballot.votes import read_votes
from harness.command_line import BROKEN, UNUSABLE, Arguments
from harness.fingerprint import digest_of
from harness.specs import Unusable

ITEMS, EDITORS = 50, 3


def main(given: Sequence[str]) -> int:
    """Runs one command; returns its exit status."""
    try:
        options = _parser().parse_args(given)
        return options.run(options)
    except Unusable as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return UNUSABLE
    except Exception:  # Python would end with 1, which says that the target was missed
        traceback.print_exc()
        return BROKEN


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(prog="python -m harness.ballot", description="Blind head-to-heads of two models.")
    commands = parser.add_subparsers(required=True, metavar="make|judge", parser_class=Arguments)
    making = commands.add_parser("make", help="writes a ballot for each editor")
    making.set_defaults(run=_make)
    making.add_argument("--base", required=True, metavar="SPEC")
    making.add_argument("--candidate", required=True, metavar="SPEC")
    making.add_argument("--prompts", type=Path, metavar="FILE", help='JSONL of {"prompt"}, fresh ones')
    making.add_argument("--answers", type=Path, metavar="FILE", help="texts that are already there; no model runs")
    making.add_argument("--out", type=Path, default=Path("out/ballot"), metavar="DIR", help="default: out/ballot")
    making.add_argument("--editors", type=int, default=EDITORS, metavar="N", help=f"default: {EDITORS}")
    making.add_argument("--items", type=int, metavar="N", help=f"prompts to draw (default: {ITEMS}, or all if fewer)")
    making.add_argument("--repeats", type=int, metavar="N", help=f"shown twice to each editor (default: {REPEATS})")
    making.add_argument("--target", type=float, default=100 * TARGET, metavar="PERCENT", help="default: 60")
    making.add_argument("--simulated", action="store_true", help="programs will vote, and everything says so")
    making.add_argument("--max-tokens", type=int, default=220, metavar="N", help="of an answer (default: 220)")
    making.add_argument("--temperature", type=float, default=0.0, help="default: 0, greedy")
    making.add_argument("--seed", type=int, default=0, help="of the sampling noise")
    making.add_argument("--store", type=Path, metavar="DIR", help="default: in the cache")
    making.add_argument("--device", default="auto")
    making.add_argument("--dtype", default="auto")
    making.add_argument("--trust-remote-code", action="store_true")
    judging = commands.add_parser("judge", help="judges the votes that came back")
    judging.set_defaults(run=_judge)
    judging.add_argument("--key", type=Path, required=True, metavar="FILE", help=f"DIR/{FOLDER}/{NAME}")
    judging.add_argument("--votes", type=Path, required=True, metavar="DIR", help="the files that editors saved")
    judging.add_argument("--out", type=Path, metavar="DIR", help="for the result (default: beside the key)")
    return parser


def _make(options: argparse.Namespace) -> int:
    if not (options.prompts or options.answers):
        raise Unusable("there is nothing to ask; name prompts with --prompts FILE, or answers with --answers FILE.")
    if options.items is not None and options.items < 2:
        raise Unusable(f"--items {options.items} is no number of prompts; write 2 or more, 50 are usual.")
    known = asked.read_pairs(options.answers) if options.answers else None
    listed = asked.read_prompts(options.prompts) if options.prompts else [pair.prompt for pair in known]
    if options.items is not None and options.items > len(listed):
        raise Unusable(
            f"--items {options.items} is more than the {len(listed)} prompts there are; write fewer, or add some."
        )
    chosen = asked.draw(listed, options.items or ITEMS)
    target, editors, simulated = options.target / 100, options.editors, options.simulated
    repeats = min(REPEATS, len(chosen)) if options.repeats is None else options.repeats
    check_design(len(chosen), editors, repeats, target)
    check_out(options.out)
    print(*plan_lines(len(chosen), editors, target, simulated=simulated), sep="\n", flush=True)
    pairs, made_by = _told(options, known, chosen) if known else _written(options, chosen)
    key = new_key(pairs, editors=editors, target=target, repeats=repeats, simulated=simulated, **made_by)
    make(pairs, key, options.out)
    files = f"ballot-1.html to ballot-{editors}.html" if editors > 1 else "ballot-1.html"
    print(f"written to {options.out}: {files} for the editors; {FOLDER}/ names the models and must not reach them")
    return 0


def _told(options: argparse.Namespace, known: Sequence[asked.Pair], chosen: Sequence[str]):
    """Texts that are there: no model is looked at, so their digests are the texts'."""
    pairs = asked.answered(chosen, known, options.answers)
    sides = {
        side: {"spec": getattr(options, side), "digest": digest_of([getattr(pair, side) for pair in pairs])}
        for side in (asked.BASE, asked.CANDIDATE)
    }
    return pairs, {**sides, "asked": {"answers": "given"}}


def _written(options: argparse.Namespace, chosen: Sequence[str]):
    """Texts that both models write now, or have written before."""
    from harness.ballot.answers import write_answers, writers

    names = ("store", "device", "dtype", "trust_remote_code", "temperature", "seed")
    ready = writers(
        options.base,
        options.candidate,
        max_gen_toks=options.max_tokens,
        **{name: getattr(options, name) for name in names},
    )
    pairs, faults = write_answers(ready, chosen)
    sides = {side: {"spec": model.spec.text, "digest": model.digest} for side, model in
             ((asked.BASE, ready.base), (asked.CANDIDATE, ready.candidate))}  # fmt: skip
    settings = {"chat": ready.asking.chat, "max_gen_toks": ready.asking.max_gen_toks}
    settings |= {"temperature": ready.asking.temperature, "seed": ready.asking.seed, "faults": faults}
    return pairs, {**sides, "asked": settings}


def _judge(options: argparse.Namespace) -> int:
    out = options.out or options.key.parent
    results.remove(out)
    key = read_key(options.key)
    found = judge(key, read_votes(options.votes, key), options.key)
    print(*results.lines(found, key), sep="\n")
    for path in results.write(found, key, out):
        print(f"written to {path}")
    return found.exit


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
