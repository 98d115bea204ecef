"""How numbers are printed: proportions come in, points (0-100, one decimal) go out. The only place that rounds."""

from __future__ import annotations

MINUS = "−"


def points(value: float) -> str:
    """0.2133 -> '21.3'; the loss, floor or score of a table."""
    return f"{_tidy(100 * value):.1f}"


def signed(value: float) -> str:
    """-0.111 -> '−11.1', 0.02 -> '+2.0', 0 -> '0.0'; a change."""
    tidy = _tidy(100 * value)
    if tidy == 0:
        return "0.0"
    return f"{MINUS if tidy < 0 else '+'}{abs(tidy):.1f}"


def rounded(value: float) -> float:
    """Points as a number for other programs, to two decimals: -14.1667 -> -14.17."""
    return round(value, 2) + 0.0


def percent(share: float) -> str:
    """0.834 -> '83%', −0.02 -> '−2%'; a share of a loss or a gain."""
    whole = round(100 * share)
    return f"{MINUS if whole < 0 else ''}{abs(whole)}%"


def share_range(estimate: float, low: float | None, high: float | None) -> str:
    """A share with its bounds: '83% [50%, 104%]'; a bound of None excludes nothing: '83% [open, 104%]'."""
    bounds = ("open" if bound is None else percent(bound) for bound in (low, high))
    return f"{percent(estimate)} [{', '.join(bounds)}]"


def confidence(alpha: float) -> str:
    """The level of a bound from its error rate: 0.05 -> '95%', 0.025 -> '97.5%', 0.05 / 15 -> '99.67%'."""
    return f"{100 * (1 - alpha):.4g}%"


def rate(alpha: float) -> str:
    """An error rate as it was set: 0.05 -> '5%', 0.025 -> '2.5%'."""
    return f"{100 * alpha:g}%"


def as_set(value: float) -> str:
    """What someone has set, as they did: 5.0 -> '5', 0.25 -> '0.25'."""
    return f"{value:g}"


def share_as_set(share: float) -> str:
    """A share that someone has set: 0.72 -> '72%', 0.725 -> '72.5%'."""
    return f"{as_set(100 * share)}%"


def limit(margin: float) -> str:
    """A margin as it was set, in points: 5.0 -> '5', 2.5 -> '2.5'."""
    return as_set(margin)


def pvalue(value: float) -> str:
    """0.0179 -> 'p = 0.018', 0.0002 -> 'p < 0.001'."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def times(ratio: float) -> str:
    """How often one amount is in another: 2.833 -> '2.8'; a loss beside what is allowed."""
    return f"{_tidy(ratio):.1f}"


def count(number: int) -> str:
    """2806 -> '2,806'."""
    return f"{number:,}"


def seconds(value: float) -> str:
    """63.24 -> '63.2'; of wall clock."""
    return f"{_tidy(value):.1f}"


def dollars(value: float) -> str:
    """0.0131 -> '$0.0131', 3 -> '$3.0000'; of calls, which cost parts of a cent."""
    return f"${value:.4f}"


def mebibytes(value: int) -> str:
    """1_610_612_736 -> '1,536 MiB'."""
    return f"{count(round(value / 2**20))} MiB"


def interval(bound) -> str:
    """A change with its bounds: '−11.1 [−15.2, −7.0]'. `bound` has estimate, low and high."""
    return f"{signed(bound.estimate)} [{signed(bound.low)}, {signed(bound.high)}]"


def rate_interval(bound) -> str:
    """A rate with its bounds: '63.7% [54.1, 72.9]'. `bound` has estimate, low and high."""
    return f"{points(bound.estimate)}% [{points(bound.low)}, {points(bound.high)}]"


def coefficient(value: float) -> str:
    """An agreement or a correlation, which is no share: 0.2434 -> '0.24', -0.051 -> '−0.05'."""
    tidy = round(value, 2) + 0.0
    return f"{MINUS if tidy < 0 else ''}{abs(tidy):.2f}"


def _tidy(value: float) -> float:
    """Rounded to one decimal, and never minus zero."""
    return round(value, 1) + 0.0
