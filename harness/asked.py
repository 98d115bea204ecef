"""What an audit will ask of its models, as far as it decides what may read them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from harness.benchmarks import LoadedBenchmark
from harness.specs import Unusable
from harness.tokenizers import rendered

SLACK = 8  # tokens by which texts joined may exceed their parts: BOS, and a word that is cut elsewhere


class Asked:
    """benchmarks: of an audit, by name, each with the seeds that change anything."""

    def __init__(self, benchmarks: Mapping[str, LoadedBenchmark]):
        self.benchmarks = benchmarks
        self._longest: int | None = None

    def refuse_sampling(self, reader: str) -> None:
        """`Unusable` if a benchmark is sampled; reader: what would answer, without the common noise."""
        for name, benchmark in self.benchmarks.items():
            if benchmark.temperature > 0:
                raise Unusable(
                    f"benchmark '{name}' is sampled at temperature {benchmark.temperature:g} and answered by {reader},"
                    " which cannot sample base and candidate with the same noise; write --greedy, or set temperature ="
                    " 0 in the basket."
                )

    def longest(self, tokenizer) -> int:
        """Tokens of the longest prompt with all that is scored and written behind it; no less than there will be.

        tokenizer: of any of the audit's models, which all cut texts alike.
        """
        if self._longest is None:
            self._longest = max(_longest(benchmark, tokenizer) for benchmark in self.benchmarks.values())
        return self._longest


def _longest(benchmark: LoadedBenchmark, tokenizer) -> int:
    from lm_eval.models.utils import normalize_gen_kwargs

    length = functools.cache(lambda text: len(tokenizer.encode(text)))
    seeds, most = benchmark.effective_seeds(benchmark.benchmark.seeds), 0
    for item in benchmark.items:
        for seed in seeds:
            context = scored = written = 0
            for request in benchmark.requests(item, seed, functools.partial(rendered, tokenizer)):
                context = max(context, length(request.args[0]))
                if request.request_type == "generate_until":
                    written = max(written, normalize_gen_kwargs(request.args[1])["max_gen_toks"])
                else:
                    scored += length(request.args[1]) + SLACK
            most = max(most, context + len(seeds) * scored + written + SLACK)
    return most
