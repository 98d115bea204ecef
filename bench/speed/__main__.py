"""How fast an audit is on this machine, beside `lm_eval`'s Hugging Face backend run twice: docs/speed.md.

    make speed          or: python -m bench.speed [--runs 3] [--only against,audits,…] [--page]

Each part keeps what it measured in bench/speed/measured as soon as it has it; runs of `against` and `audits` are added
to those that are there. `--page` writes the page from what is there. Every part wants the machine for itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bench.speed import against, audits, continuous, coupling, cuda, drafts, figures, growth, results

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "speed.md"
PARTS = {
    "against": against,
    "audits": audits,
    "growth": growth,
    "coupling": coupling,
    "drafts": drafts,
    "continuous": continuous,
    "cuda": cuda,
}
FIGURES = {"against": figures.against_figure, "growth": figures.growth_figure}


def measure(name: str, runs: int) -> None:
    if name in ("against", "audits"):
        PARTS[name].measure(runs)
    elif name == "continuous":
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            continuous.measure(device)
    elif name == "cuda" and not torch.cuda.is_available():
        print("no GPU here: the CUDA section is left as it is.")
    elif name != "coupling":  # which `audits` measures on the scores of its cold audit
        PARTS[name].measure()


def write_page() -> None:
    lines = ["# Speed", "`make speed` measures and writes this page again."]
    for name, part in PARTS.items():
        if found := results.read(name):
            lines += part.section(found)
            if name in FIGURES:
                figures.save(FIGURES[name](found), PAGE.parent / "speed" / f"{name}.svg")
    PAGE.write_text("\n\n".join(lines) + "\n")
    print(PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="how many more of the timed comparisons")
    parser.add_argument("--only", metavar="PARTS", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--page", action="store_true", help="write the page from what was measured")
    given = parser.parse_args()
    (PAGE.parent / "speed").mkdir(exist_ok=True)
    for name in () if given.page else given.only.split(","):
        if name not in PARTS:
            parser.error(f"--only {name}: expected some of {', '.join(PARTS)}")
        measure(name, given.runs)
    write_page()


if __name__ == "__main__":
    main()
