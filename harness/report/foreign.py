"""Text from models, users and data: hostile until it has passed here.

shown(answer, 300)      one line that shows all of itself, cut to a width
markdown(shown(...))    the same in a Markdown file, where nothing of it acts
"""

from __future__ import annotations

import re
import unicodedata

from harness.report.fonts import clusters, spelled

NEWLINE = "\u21b5"
ISOLATE, END_ISOLATE = "\u2068", "\u2069"
ACTIVE = re.compile(r"://|www\.|[\\`*_{}\[\]|~$!#^&<>@]")
ENTITIES = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "://": ":&#47;&#47;", "www.": "www&#46;"
}  # fmt: skip


def shown(text: object, width: int, middle: bool = False) -> str:
    """One line of at most `width` columns (a Chinese character takes two), with line breaks as a sign.

    middle: cut there, so that the ends of a long name stay. Right-to-left text is isolated: it turns nothing around it.
    """
    lines = re.sub(r"[ \t]*(\r\n|[\r\n\v\f\x85\u2028\u2029])[ \t]*", f" {NEWLINE} ", str(text).strip())
    line = spelled(re.sub(r"[^\S\u3000]+", " ", lines).strip())
    cut = _cut_middle(line, width) if middle else _cut(line, width)
    turns = any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in cut)
    return f"{ISOLATE}{cut}{END_ISOLATE}" if turns else cut


def markdown(text: str) -> str:
    """The text with everything escaped that Markdown, HTML or a hub would act on."""
    return ACTIVE.sub(lambda found: ENTITIES.get(found.group(), "\\" + found.group()), text)


def columns(text: str) -> int:
    """Width on the page, in columns of a Latin letter."""
    return sum(_width(cluster) for cluster in clusters(text))


def _width(cluster: str) -> int:
    return 2 if unicodedata.east_asian_width(cluster[0]) in "WF" else 1


def _cut(line: str, width: int) -> str:
    if columns(line) <= width:
        return line
    return _first(list(clusters(line)), width - 1).rstrip() + "…"


def _cut_middle(line: str, width: int) -> str:
    if columns(line) <= width:
        return line
    parts = list(clusters(line))
    head = _first(parts, (width - 1) // 2)
    tail, left = [], width - 1 - columns(head)
    for part in reversed(parts):
        left -= _width(part)
        if left < 0:
            break
        tail.append(part)
    return f"{head}…{''.join(reversed(tail))}"


def _first(parts: list[str], width: int) -> str:
    kept = []
    for part in parts:
        width -= _width(part)
        if width < 0:
            break
        kept.append(part)
    return "".join(kept)
