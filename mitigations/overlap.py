"""A model that was trained on what a benchmark asks is graded on what it has read: such rows are found and dropped.

    kept, dropped = without_overlaps(rows, benchmark_texts(benchmarks))      # dropped: {"gsm8k": 3}

The n-gram check of Brown et al. 2020, "Language Models are Few-Shot Learners", arXiv:2005.14165, appendix C, on eight
words. As there, an n-gram that stands in more than ten texts tells no item: it is the wording of a kind of question
("how many carbon atoms are in the formula of"). Without that rule up to a fifth of the embedded chemistry questions
would go, and with them whole kinds of question; with it, fewer than one in a hundred.

An item that is wrapped in many prompts ("Rephrase this: …", "Answer step by step: …") stands in more than ten texts
too. So a row that holds most of the n-grams *of one item* overlaps it, however often they occur: the wording of a kind
lacks what tells its items apart. The share is of the item and not of the row, which can be as long as it likes. On the
embedded questions, 0.8 drops no row besides; at 0.7 the wording of a kind begins to count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.benchmarks import LoadedBenchmark

N = 8
COMMON = 10  # texts of the benchmarks and of the data that is checked, together
CONTAINED = 0.8  # share of the n-grams of an item that a row holds only if it holds the item
FEWEST = 5  # words; what is shorter may stand anywhere ("all of the above")
UNSPACED = "\u3040-\u30ff\u3400-\u9fff"  # kana and Chinese characters, which are written without spaces: each is a word
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

Row = dict[str, str]


def benchmark_texts(benchmarks: Mapping[str, LoadedBenchmark]) -> dict[str, list[str]]:
    """Benchmark -> the texts in the documents of its items that tell an item, each once.

    Of all items that may be judged; the few-shot block is none of them. A text tells its item if it has `N` words, or
    `FEWEST` and is no part of a list: a short choice ("none of the above is correct") stands beside many questions.
    """
    texts: dict[str, dict[str, None]] = {name: {} for name in benchmarks}
    for name, loaded in benchmarks.items():
        for item in loaded.items:
            found = _strings(item.doc)
            texts[name] |= {text: None for text, listed in found if len(_words(text)) >= (N if listed else FEWEST)}
    return {name: list(found) for name, found in texts.items()}


def overlaps(texts: Sequence[str], benchmarks: Mapping[str, Sequence[str]], n: int = N) -> list[str | None]:
    """For each text a benchmark that it shares `n` consecutive words with, or None.

    Words are compared in lower case and without punctuation. A text of a benchmark that is shorter than `n` words is
    looked for as a whole, and not at all if it is shorter than `FEWEST`. What stands in more than `COMMON` different
    texts is no overlap, unless a share `CONTAINED` of one text of a benchmark is there.
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


def prompts_without_overlaps(
    prompts: Sequence[str], benchmarks: Mapping[str, Sequence[str]], n: int = N
) -> tuple[list[str], dict[str, int]]:
    """(the prompts that overlap no benchmark, how many overlap each)."""
    sources = overlaps(prompts, benchmarks, n)
    kept = [prompt for prompt, source in zip(prompts, sources, strict=True) if source is None]
    return kept, dict(Counter(source for source in sources if source is not None))


def _sources(
    parts: Sequence[Sequence[tuple[str, range]]], benchmarks: Mapping[str, Sequence[str]], n: int
) -> list[str | None]:
    """What each row overlaps. A row is its texts, each with the lengths of run that count in it; the first names it."""
    items, known = _known(benchmarks, n)
    counts = Counter({run: len(holders) for run, holders in known.items()})
    held = [
        {run for text, sizes in row for size in sizes for run in _runs(_words(text), size) if run in known}
        for row in parts
    ]
    for runs in {row[0][0]: runs for row, runs in zip(parts, held, strict=True)}.values():  # the same prompt once
        counts.update(runs)

    def source(runs: set[str]) -> str | None:
        told = [known[run][0] for run in runs if counts[run] <= COMMON]
        of_item = Counter(item for run in runs for item in known[run])
        told += [item for item, there in of_item.items() if there >= CONTAINED * items[item][1]]
        return items[min(told)][0] if told else None

    return [source(runs) for runs in held]


def _known(benchmarks: Mapping[str, Sequence[str]], n: int) -> tuple[list[tuple[str, int]], dict[str, list[int]]]:
    """(benchmark and number of runs of each of its texts; run of words -> the numbers of the texts that hold it)."""
    items: list[tuple[str, int]] = []
    known: dict[str, list[int]] = {}
    for name, texts in benchmarks.items():
        for words in dict.fromkeys(tuple(_words(text)) for text in texts):
            if len(words) >= FEWEST:
                runs = _runs(words, min(n, len(words)))
                for run in runs:
                    known.setdefault(run, []).append(len(items))
                items.append((name, len(runs)))
    return items, known


def _runs(words: Sequence[str], size: int) -> set[str]:
    return {" ".join(words[at : at + size]) for at in range(len(words) - size + 1)}


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _strings(value: Any, listed: bool = False) -> Iterator[tuple[str, bool]]:
    """All texts in a document, however deep, and whether they are part of a list."""
    if isinstance(value, str):
        yield value, listed
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part, listed)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part, True)
