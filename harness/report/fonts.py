"""The memo's fonts, and which characters they show.

Typst brings Libertinus Serif and DejaVu Sans Mono; two wheels of data bring Noto Sans for the world's scripts. What no
font has would show as an empty box without a word, so `spelled` writes it out: U+E000 becomes \\u{E000}.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
from fontTools.ttLib import TTFont

WHEELS = ("manimgx_fonts", "manimgx_fonts_cjk")
FIRST, LAST = ("Libertinus Serif",), ("Noto Sans CJK SC", "Noto Emoji", "DejaVu Sans Mono")
SIMPLIFIED = 2  # place of Noto Sans CJK SC in its collection
JOINERS = {"\u200c", "\u200d", *map(chr, range(0xFE00, 0xFE10))}  # shape the characters around them, and show nothing
MARKS = 4  # on one letter; more would run over the lines above and below


@functools.cache
def book() -> Any:
    """What Typst sets the memo with: the same fonts on every machine, none of the system's."""
    import typst

    return typst.Fonts(include_system_fonts=False, font_paths=[str(path) for path in _folders()])


@functools.cache
def families() -> tuple[str, ...]:
    """Names of the fonts in the order in which they are tried for a character."""
    scripts = (name for name in book().families() if name.startswith("Noto Sans") and "CJK" not in name)
    return (*FIRST, *sorted(scripts), *LAST)


def spelled(text: str) -> str:
    """The text with everything that would not show, or would show elsewhere, as \\u{…}.

    That is: controls, marks that turn the direction of what follows, characters without a meaning or a font, and marks
    piled up on one letter.
    """
    return "".join(_spelled(cluster) for cluster in clusters(text))


def clusters(text: str) -> Iterator[str]:
    """Letters with the marks and joiners that belong to them."""
    held = ""
    for char in text:
        joins = unicodedata.category(char).startswith("M") or char in JOINERS or held.endswith("\u200d")
        if held and not joins:
            yield held
            held = ""
        held += char
    if held:
        yield held


@functools.cache
def _spelled(cluster: str) -> str:
    if len(cluster) == 1 and " " <= cluster <= "~":
        return cluster
    kept, rest = cluster[: 1 + MARKS], cluster[1 + MARKS :]
    if any(_unshown(char) for char in kept) or not _has_font(kept):
        kept, rest = kept[:1], kept[1:] + rest
        kept = _escape(kept) if _unshown(kept) or not _has_font(kept) else kept
    return kept + "".join(map(_escape, rest))


def _escape(char: str) -> str:
    return f"\\u{{{ord(char):04X}}}"


def _unshown(char: str) -> bool:
    """Controls, surrogates, private, unassigned, and what is invisible but for the joiners."""
    category = unicodedata.category(char)
    return (category.startswith("C") or category in ("Zl", "Zp")) and char not in JOINERS


def _has_font(cluster: str) -> bool:
    """True if one font has the whole cluster, as its parts are shaped together."""
    needed = {ord(char) for char in cluster if char not in JOINERS}
    return any(needed <= _characters(path) for path in _files())


def _folders() -> tuple[Path, ...]:
    return tuple(Path(str(resources.files(name))) for name in WHEELS)


@functools.cache
def _files() -> tuple[Path, ...]:
    """Typst's own cannot be read here: Noto Sans has the letters of Libertinus, and Matplotlib has the same DejaVu."""
    fonts = [path for folder in _folders() for path in sorted(folder.iterdir()) if path.suffix in (".ttf", ".ttc")]
    mono = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
    usual = [path for path in fonts if path.stem.startswith("NotoSans[")]
    return (*usual, mono, *sorted(set(fonts) - set(usual), key=lambda path: (path.suffix == ".ttc", path)))


@functools.cache
def _characters(path: Path) -> frozenset[int]:
    with TTFont(path, fontNumber=SIMPLIFIED if path.suffix == ".ttc" else -1, lazy=True) as font:
        return frozenset(font.getBestCmap())
