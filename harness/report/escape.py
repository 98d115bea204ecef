"""Texts of others, above all model answers and names, shown as text in HTML, Markdown, CSV and a CI log.

    html("<script>")      '&lt;script&gt;'
    markdown("a|b")       'a\\|b'

Each function takes a text as it is and returns what can stand in the format with nothing in it read as markup.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

from harness.report import foreign

LINE, SENTENCE = 400, 2000  # characters of a name, and of a reason with the names in it
BLOCK = re.compile(r"^(\d*)([-+#=.)])")  # what would start a list, a heading or a rule
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a cell that starts so
TURNS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}  # marks that reverse the text after them
MISSING = "\N{REPLACEMENT CHARACTER}"


def printable(text: object) -> str:
    """Without control characters, lone surrogates and marks that turn the direction; line ends and tabs stay."""
    return "".join(MISSING if _unprintable(c) else c for c in str(text).replace("\r\n", "\n"))


def _unprintable(character: str) -> bool:
    if character in "\n\t":
        return False
    code = ord(character)
    no_character = code & 0xFFFE == 0xFFFE  # of which XML allows none
    return code in TURNS or no_character or unicodedata.category(character) in ("Cc", "Cs")


def cut(text: object, limit: int) -> str:
    """At most so many characters of a text; how many are left out is said."""
    shown = printable(text)
    return shown if len(shown) <= limit else f"{shown[:limit]}… [{len(shown) - limit} more characters]"


def one_line(text: object, limit: int = LINE) -> str:
    """A text on one line, cut."""
    return cut(" ".join(printable(text).split()), limit)


def ends(text: object, limit: int) -> str:
    """A name on one line, of at most so many characters: cut in its middle, as paths differ at their ends."""
    shown = one_line(text)
    return shown if len(shown) <= limit else f"{shown[: limit // 3]}…{shown[-(limit - limit // 3 - 1) :]}"


def html(text: object) -> str:
    """For an element's content and for a quoted attribute."""
    return _html.escape(printable(text))


def markdown(text: object) -> str:
    """For a table's cell, a list's item or a sentence of GitHub's Markdown."""
    return BLOCK.sub(r"\1\\\2", foreign.markdown(one_line(text, SENTENCE)))


def csv_cell(text: object) -> str:
    """For a CSV cell that a spreadsheet opens: never a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def workflow_command(text: object) -> str:
    """For the message of a GitHub Actions command such as ::error::."""
    return one_line(text, SENTENCE).replace("%", "%25")  # a line end would need %0A; there is none left


def java_property(text: object) -> str:
    """For a key or a value of a .properties file, in ASCII."""
    units = one_line(text).encode("utf-16-be")
    codes = [int.from_bytes(units[n : n + 2], "big") for n in range(0, len(units), 2)]
    return "".join(_property_unit(code) for code in codes)


def _property_unit(code: int) -> str:
    character = chr(code)
    if character in " =:#!\\":
        return f"\\{character}"
    return character if code < 0x7F else f"\\u{code:04X}"
