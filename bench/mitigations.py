"""Replay shares and merge scales on the embedded candidate, over three training seeds: docs/mitigations.md.

    make mitigations      or: python -m bench.mitigations [--store DIR] [--seeds 0,1,2] [--page]

Each seed's candidate is the recipe run with that seed (seed 0 is the one that ships). All items of the regressed
benchmark and of the domain set are judged; nothing is picked here, so nothing is held back. Hours on two cores, in
steps that are kept: what was trained and scored is not done again, and rows of seeds that are not asked for stay.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fixtures.mitigations import materials
from harness.assets import cache_dir, publish
from harness.audit import Audit, Options, prepare
from harness.baskets import load_basket
from harness.checkpoints import CheckedModel
from harness.closure import closure, retention
from harness.fingerprint import digest_of
from harness.report.files import replace_file
from harness.report.numbers import percent, signed
from harness.specs import parse_model
from mitigations.experiment import Materials, made

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "fixtures" / "baskets" / "quick.toml"
RECORDED, PAGE = ROOT / "bench" / "mitigations.json", ROOT / "docs" / "mitigations.md"
TARGET, DOMAIN = "instructions", "chemistry"
SEEDS = [0, 1, 2]
SPREAD = {
    True: "mean over the training seeds, the lowest and the highest in brackets",
    False: "95% bounds over items in brackets, as one training seed has no spread",
}
SHARES, SCALES = (0.01, 0.05, 0.1, 0.25), (0.1, 0.25, 0.5, 0.75)


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from (("merge", {"scale": scale}) for scale in SCALES)
    yield from (("replay", {"share": share, "kl": 0.0}) for share in SHARES)
    yield "isolation", {}


def candidate(audit: Audit, given: Materials, seed: int) -> CheckedModel:
    """The fine-tune of one training seed: the recipe without general rows."""
    from harness.checkpoints import NOTE
    from recipes import sft
    from recipes.origin import surroundings

    shipped = audit.candidates[0]
    if seed == 0:
        return shipped
    note = json.loads((shipped.path / NOTE).read_text())["settings"] | {"seed": seed}
    key = digest_of([shipped.digest, seed, surroundings()])[:24]
    folder = audit.store.directory / "mitigations" / f"candidate-{key}"
    publish(folder, lambda out: sft.train(audit.base, given.domain, out, sft.Settings(**note)))
    return audit.further(parse_model(str(folder)))


def row(audit: Audit, given: Materials, seed: int, tuned: CheckedModel, name: str, setting: dict) -> dict[str, Any]:
    spec, seconds = made(name, setting, audit, tuned, given)
    model = audit.further(spec)
    lost, gained = (audit.comparison(tuned, benchmark) for benchmark in (TARGET, DOMAIN))
    now, kept = (audit.comparison(model, benchmark) for benchmark in (TARGET, DOMAIN))
    return {
        "seed": seed,
        "name": name,
        "setting": setting,
        "closure": list(closure(lost, now)),
        "retention": list(retention(gained, kept)),
        "change": float(now.change.mean()),
        "gain": float(kept.change.mean()),
        "candidate": [float(lost.change.mean()), float(gained.change.mean())],
        "seconds": seconds,
    }


def measure(store: Path, seeds: list[int]) -> None:
    basket, given = load_basket(QUICK), materials(load_basket(QUICK).experiment)
    audit = prepare(basket, Options("embedded:base", ("embedded:chemistry",), ROOT / "out", store, device="cpu"))
    for seed in seeds:
        tuned = candidate(audit, given, seed)
        for name, setting in settings():
            made = row(audit, given, seed, tuned, name, setting)
            print(made, flush=True)
            rows = [r for r in recorded() if (r["seed"], r["name"], r["setting"]) != (seed, name, setting)]
            rows = sorted([*rows, made], key=lambda r: r["seed"])
            replace_file(RECORDED, f"{json.dumps(rows, indent=1)}\n".encode())


def recorded() -> list[dict[str, Any]]:
    """What was measured before, of the settings that are compared now."""
    rows = json.loads(RECORDED.read_text()) if RECORDED.is_file() else []
    return [r for r in rows if (r["name"], r["setting"]) in list(settings())]


def page(rows: list[dict[str, Any]]) -> str:
    every = [r["seed"] for r in rows]
    seeds = sorted(seed for seed in set(every) if every.count(seed) == len(list(settings()))) or sorted(set(every))
    rows = [r for r in rows if r["seed"] in seeds]
    tuned = [next(r["candidate"] for r in rows if r["seed"] == seed) for seed in seeds]
    lost, gained = (statistics.fmean(changes) for changes in zip(*tuned, strict=True))
    options = "" if seeds == SEEDS else f' ARGS="--seeds {",".join(map(str, seeds))}"'
    lines = [
        "# Mitigations on the embedded candidate",
        "",
        f"Written by `make mitigations{options}`: training seed {', '.join(map(str, seeds))}, all items of {TARGET}"
        f" (under three sampling seeds) and of {DOMAIN}. On average the fine-tunes change {TARGET} by {signed(lost)}"
        f" points and {DOMAIN} by {signed(gained)}. Closure: share of the loss that is given back; retention: share of"
        f" the gain that is kept; {SPREAD[len(seeds) > 1]}; minutes: to make it on two cores, without the base's own"
        " answers where they were there already.",
        "",
        f"| mitigation | setting | closure | retention | {TARGET} against base, points | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for name, setting in settings():
        found = [r for r in rows if (r["name"], r["setting"]) == (name, setting)]
        if len(found) == len(seeds):
            shown = ", ".join(f"{key} {value:g}" for key, value in setting.items() if value) or "router"
            cells = [_range([r[key] for r in found]) for key in ("closure", "retention")]
            change = f"{signed(statistics.fmean(r['change'] for r in found))}"
            minutes = f"{statistics.fmean(r['seconds'] for r in found) / 60:.1f}"
            lines.append(f"| {name} | {shown} | {' | '.join(cells)} | {change} | {minutes} |")
    return "\n".join([*lines, ""])


def _range(found: list[list[float]]) -> str:
    """found: (estimate, low, high) of each training seed; see `SPREAD`."""
    estimates = [estimate for estimate, _, _ in found]
    low, high = (min(estimates), max(estimates)) if len(found) > 1 else found[0][1:]
    return f"{percent(statistics.fmean(estimates))} [{percent(low)}, {percent(high)}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=cache_dir() / "store")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--page", action="store_true", help="write the page from the last measurements")
    given = parser.parse_args()
    if not given.page:
        measure(given.store, [int(seed) for seed in given.seeds.split(",")])
    if not (rows := recorded()):
        parser.error("nothing was measured yet; leave --page out")
    PAGE.write_text(page(rows))


if __name__ == "__main__":
    main()
