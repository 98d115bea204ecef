"""What the gate promises, with the figure that came out."""

from __future__ import annotations

from dataclasses import dataclass

from bench.calibration import early, planted
from bench.calibration.results import Results
from harness.report.numbers import points


@dataclass(frozen=True)
class Claim:
    """One promise: what is counted, its limit and the figure found, in words, and whether it is within the limit."""

    promise: str
    limit: str
    found: str
    met: bool


def percent(share: float, digits: int = 1) -> str:
    """0.0499 -> '5.0'; a share in [0, 1]."""
    return f"{100 * share:.{digits}f}"


def claims(results: Results) -> list[Claim]:
    """Every promise that has a number."""
    worst = max(float(sizes.max()) for (_, _, rule), sizes in results.sizes.items() if rule == "Lethe")
    cost = abs(results.power["Tango"] - results.power["Lethe"])
    covered = [shares["crossed"] for shares in results.coverage.values()]
    low, high = min(covered), max(covered)
    caught = 1 - max(results.planted[recording.label, 0.05].get("PASS", 0.0) for recording in planted.RECORDINGS)
    same, large = (1 - results.early[change].batched / early.ITEMS for change in (0.0, -0.10))
    at_margin = results.early[-early.MARGIN]
    inside = low >= 0.94 and high <= 0.96
    return [
        Claim("worst false-pass rate", "at most 5%", f"{percent(worst, 2)}%", worst <= 0.05),
        Claim("power at no change, apart from Tango's", "at most 2 points", f"{points(cost)} points", cost <= 0.02),
        Claim("coverage of the crossed interval", "94 to 96%", f"{percent(low)} to {percent(high)}%", inside),
        Claim("planted 5-point losses not passed", "at least 99%", f"{percent(caught)}%", caught >= 0.99),
        Claim("items saved at no change", "at least 50%", f"{percent(same)}%", same >= 0.5),
        Claim("items saved at −10 points", "at least 80%", f"{percent(large)}%", large >= 0.8),
        _early("PASS", at_margin.passed),
        _early("REGRESSED", at_margin.regressed),
    ]


def _early(verdict: str, share: float) -> Claim:
    return Claim(f"early {verdict} at the margin", "at most 5%", f"{percent(share)}%", share <= 0.05)
