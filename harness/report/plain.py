"""Foreign text - names of models, answers - on one line: it can neither steer a terminal nor break a table."""

from __future__ import annotations

import re
import unicodedata

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, marks that turn the direction of writing, line ends


def line(text: str, most: int = 60) -> str:
    """The text with what does not show written as an escape (\\x1b), cut to `most` characters with an ellipsis."""
    shown = "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in UNSEEN else c for c in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def markdown(text: str, most: int = 60) -> str:
    """`line` for a cell of a Markdown table: markup shows as text."""
    shown = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", line(text, most))
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
