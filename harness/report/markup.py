"""HTML of the Allure report: small documents with their styles inline, as Allure shows them in frames without scripts.

Every text passes through `escape.html`; nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from harness.report import escape

RED, GREEN, AMBER, INK, GREY, RULE = "#a3171d", "#11683a", "#8a5200", "#1a2233", "#5b6474", "#d5dae1"
SHADES = {
    "REGRESSED": (RED, "#fdeaea"),
    "MISSED": (RED, "#fdeaea"),
    "INCONCLUSIVE": (AMBER, "#fdf3e0"),
    "PASS": (GREEN, "#e6f5ec"),
    "BLOCKED": (RED, "#fdeaea"),
    "SHIP": (GREEN, "#e6f5ec"),
    "yes": (GREEN, "#e6f5ec"),
    "no": (RED, "#fdeaea"),
    "cannot tell": (AMBER, "#fdf3e0"),
}
FONT = "font:14px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif"
NUMBER = "text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
WRAP = "overflow-wrap:anywhere"


def page(title: str, *parts: str) -> str:
    """A document of its own; parts: markup."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape.html(title)}</title></head>'
        f'<body style="{FONT};color:{INK};background:#fff;margin:12px">{heading(title)}{"".join(parts)}</body></html>\n'
    )


def block(*parts: str) -> str:
    """A description, which Allure puts into a page of its own."""
    return f'<div style="{FONT};color:{INK};background:#fff;padding:2px">{"".join(parts)}</div>'


def heading(text: str, colour: str = INK) -> str:
    return f'<h3 style="margin:14px 0 6px;font-size:16px;color:{colour};{WRAP}">{escape.html(text)}</h3>'


def paragraph(text: str, colour: str = INK) -> str:
    return f'<p style="margin:6px 0;max-width:60em;color:{colour};{WRAP}">{escape.html(text)}</p>'


def bullets(texts: Sequence[str]) -> str:
    items = "".join(f'<li style="margin:3px 0;{WRAP}">{escape.html(text)}</li>' for text in texts)
    return f'<ul style="margin:6px 0;padding-left:20px;max-width:60em">{items}</ul>' if texts else ""


def banner(word: str, text: str) -> str:
    """The decision: its word large, the sentence beside it."""
    ink, shade = SHADES.get(word, (AMBER, "#fdf3e0"))
    return (
        f'<div style="border-left:5px solid {ink};background:{shade};padding:10px 14px;margin:4px 0 10px">'
        f'<div style="font-size:20px;font-weight:700;color:{ink}">{escape.html(word)}</div>'
        f'<div style="margin-top:3px;{WRAP}">{escape.html(text)}</div></div>'
    )


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Mapping[str, str] = {},
    shaded: str = "",
    preformatted: bool = False,
) -> str:
    """styles: by column; shaded: the column whose words have a colour; preformatted: line ends in cells are kept."""
    rule = f"border:1px solid {RULE};padding:4px 8px;vertical-align:top"
    keep = f";white-space:{'pre-wrap' if preformatted else 'normal'}"
    top = "".join(f'<th style="{rule};background:#f3f5f8;text-align:left">{escape.html(text)}</th>' for text in head)
    lines = []
    for row in rows:
        cells = []
        for name, text in zip(head, row, strict=True):
            ink, shade = SHADES.get(text, (None, None)) if name == shaded else (None, None)
            style = f"{rule}{keep};{WRAP}" + (f";{styles[name]}" if name in styles else "")
            style += f";color:{ink};background:{shade};font-weight:600;white-space:nowrap" if ink else ""
            cells.append(f'<td style="{style}">{escape.html(text)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody>"
    made = f'<table style="border-collapse:collapse;font-size:13px">{body}</table>'
    return f'<div style="overflow-x:auto;margin:8px 0">{made}</div>'


def image(svg: str, words: str) -> str:
    """An SVG drawing, as a picture that can run nothing. words: what it shows, for those who do not see it."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape.html(words)}" src="data:image/svg+xml;base64,{data}" style="max-width:100%">'
