"""A model that was trained on what a benchmark asks is graded on what it has read: such rows are found and dropped.

    kept, dropped = without_overlaps(rows, benchmark_texts(benchmarks))      # dropped: {"gsm8k": 3}

The n-gram check of Brown et al. 2020, "Language Models are Few-Shot Learners", arXiv:2005.14165, appendix C, on eight
words. As there, an n-gram that stands in more than ten texts tells no item: it is the wording of a kind of question
("how many carbon atoms are in the formula of"). Without that rule up to a fifth of the embedded chemistry questions
would go, and with them whole kinds of question; with it, one or two in a hundred.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.benchmarks import LoadedBenchmark

N = 8
COMMON = 10  # texts of the benchmarks and of the data that is checked, together
FEWEST = 5  # words; what is shorter may stand anywhere ("all of the above")
UNSPACED = "\u3040-\u30ff\u3400-\u9fff"  # kana and Chinese characters, which are written without spaces: each is a word
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

Row = dict[str, str]


def benchmark_texts(benchmarks: Mapping[str, LoadedBenchmark]) -> dict[str, list[str]]:
    """Benchmark -> the texts of at least `FEWEST` words in the documents of its items, each once.

    Of all items that may be judged; the few-shot block is none of them.
    """
    texts: dict[str, dict[str, None]] = {name: {} for name in benchmarks}
    for name, loaded in benchmarks.items():
        for item in loaded.items:
            texts[name] |= {text: None for text in _strings(item.doc) if len(_words(text)) >= FEWEST}
    return {name: list(found) for name, found in texts.items()}


def overlaps(texts: Sequence[str], benchmarks: Mapping[str, Sequence[str]], n: int = N) -> list[str | None]:
    """For each text a benchmark that it shares `n` consecutive words with, or None.

    Words are compared in lower case and without punctuation. A text of a benchmark that is shorter than `n` words is
    looked for as a whole, and not at all if it is shorter than `FEWEST`. What stands in more than `COMMON` different
    texts is no overlap.
    """
    return _sources([[(text, range(FEWEST, n + 1))] for text in texts], benchmarks, n)


def without_overlaps(
    rows: Sequence[Row], benchmarks: Mapping[str, Sequence[str]], n: int = N
) -> tuple[list[Row], dict[str, int]]:
    """(the {"prompt", "response"} rows that overlap no benchmark, how many overlap each).

    Short texts of a benchmark count in prompts alone: as an answer, "carbon, hydrogen, nitrogen and oxygen" is no item.
    """
    parts = [[(row["prompt"], range(FEWEST, n + 1)), (row["response"], range(n, n + 1))] for row in rows]
    sources = _sources(parts, benchmarks, n)
    kept = [row for row, source in zip(rows, sources, strict=True) if source is None]
    return kept, dict(Counter(source for source in sources if source is not None))


def _sources(
    parts: Sequence[Sequence[tuple[str, range]]], benchmarks: Mapping[str, Sequence[str]], n: int
) -> list[str | None]:
    """What each row overlaps. A row is its texts, each with the lengths of run that count in it; the first names it."""
    known, counts = _known(benchmarks, n)
    held = [
        {run for text, sizes in row for size in sizes for run in _runs(_words(text), size) if run in known}
        for row in parts
    ]
    for runs in {row[0][0]: runs for row, runs in zip(parts, held, strict=True)}.values():  # the same prompt once
        counts.update(runs)
    return [next((known[run] for run in sorted(runs) if counts[run] <= COMMON), None) for runs in held]


def _known(benchmarks: Mapping[str, Sequence[str]], n: int) -> tuple[dict[str, str], Counter[str]]:
    """Run of words -> the first benchmark that holds it, and in how many different texts of benchmarks it stands."""
    known: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for name, texts in benchmarks.items():
        for words in dict.fromkeys(tuple(_words(text)) for text in texts):
            runs = _runs(words, min(n, len(words))) if len(words) >= FEWEST else set()
            counts.update(runs)
            for run in runs:
                known.setdefault(run, name)
    return known, counts


def _runs(words: Sequence[str], size: int) -> set[str]:
    return {" ".join(words[at : at + size]) for at in range(len(words) - size + 1)}


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _strings(value: Any) -> Iterator[str]:
    """All texts in a document, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(part)
