"""Measures the gate and writes docs/calibration.md with its figures.

    python -m bench.calibration

Needs no model: scores of real ones are in recorded.json beside this (`python -m bench.calibration.record`). Everything
is seeded, and the same packages give the same bytes. Ends with exit status 1 if a promise was not kept.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bench.calibration import page, plots
from bench.calibration.claims import claims
from bench.calibration.results import Results, compute
from bench.drawing import save

DOCS = Path(__file__).parents[2] / "docs"


def write(results: Results, docs: Path = DOCS) -> None:
    """calibration.md and calibration/*.svg under `docs`."""
    figures = {
        "size": plots.size_figure(results.sizes, 200, 0.03),
        "coverage": plots.coverage_figure(results.coverage),
        "planted": plots.planted_figure(results.planted),
        "early": plots.early_figure(results.early),
    }
    (docs / "calibration").mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save(figure, docs / "calibration" / f"{name}.svg")
    (docs / "calibration.md").write_text(page.render(results), encoding="utf-8")


def main() -> int:
    """Computes, writes, prints each claim; 1 if one was missed."""
    start = time.monotonic()
    results = compute(lambda part: print(f"{time.monotonic() - start:5.0f} s  {part}", flush=True))
    write(results)
    found = claims(results)
    for claim in found:
        print(f"{'met   ' if claim.met else 'MISSED'}  {claim.promise}: {claim.found} ({claim.limit})")
    print(f"{time.monotonic() - start:5.0f} s  docs/calibration.md")
    return 0 if all(claim.met for claim in found) else 1


if __name__ == "__main__":
    sys.exit(main())
