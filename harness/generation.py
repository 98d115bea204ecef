"""Texts of requests with equal settings, written together: a row that ends leaves its slot to the next prompt.

A prompt is read once, with all that is asked about it: what follows it under other requests (`given`) hangs from its
last token as branches of one tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.likelihood import loglikelihoods
from harness.memory import attempt
from harness.sampling import coupled_choice, greedy_choice
from harness.slots import Prefix, Row, Slots
from harness.text_end import Settings
from harness.token_tree import TokenTree, packs

# Share of the slots that must be free before prompts are read. On a GPU a pass over one costs as much as over many.
FREE = {"cpu": 0.0, "cuda": 0.125}
Given = dict[int, list[tuple[int, list[int]]]]  # prompt -> (request, its continuation), to be scored on the way


class Writing:
    """One group of texts. prompts: token ids by request, in the order in which they are begun; prefix: what all of
    them start with, kept; keys: of the noise of each, for sampling."""

    def __init__(
        self,
        engine,
        prompts: dict[int, list[int]],
        prefix: Prefix | None,
        settings: Settings,
        keys: dict[int, int],
        given: Given,
    ):
        self.engine, self.prompts, self.prefix, self.settings, self.keys = engine, prompts, prefix, settings, keys
        self.given = {i: list(given.get(i, [])) for i in prompts}
        self.start = prefix.length if prefix else 0
        self.waiting = list(prompts)[::-1]
        self.slots = Slots(engine.model, min(engine.slots, len(prompts)), prefix)
        self.free_share = FREE["cuda" if engine.model.device.type == "cuda" else "cpu"]

    def run(self) -> Iterator[tuple[int, Any]]:
        """Yields (request, text) as rows end, and (request, loglikelihood) of what was given as prompts are read."""
        while self.waiting or self.slots.rows:
            if self.waiting and self.slots.free >= self._wanted_free():
                yield from self._admit([self.waiting.pop() for _ in range(min(self.slots.free, len(self.waiting)))])
            else:
                self._step()
            for row in self.slots.take_finished():
                yield row.key, self.settings.text(row.tokens)

    def _wanted_free(self) -> int:
        return min(len(self.waiting), max(1, int(self.free_share * self.slots.size)))

    def _admit(self, batch: list[int]) -> Iterator[tuple[int, Any]]:
        """Reads the batch's prompts and puts each with its first token into a slot; halves what does not fit."""
        batch = sorted(batch, key=lambda i: self.prompts[i])
        whole = {i: self.prompts[i] + [token for _, tokens in self.given[i] for token in tokens] for i in batch}
        runs = packs(batch, whole, self.start, self.engine.pack_tokens)
        for n, members in enumerate(runs):
            again = len(members) > 1 or bool(self.slots.rows) or self.slots.size > 1
            answers = attempt(lambda members=members: self._read(members), again)
            if answers is None:
                self.waiting += [i for run in runs[n:] for i in run]
                if len(members) > 1:
                    self.engine.pack_tokens = max(1, self.engine.pack_tokens // 2)
                self.slots.shrink(len(self.slots.rows) or max(1, self.slots.size // 2))
                return
            yield from answers

    def _read(self, members: Sequence[int]) -> list[tuple[int, Any]]:
        """One pass over prompts and what is given behind them; the prompts' rows enter the slots."""
        sequences, owners = [], []
        for i in members:
            tail = self.prompts[i][self.start :]
            behind = sorted(self.given[i], key=lambda pair: pair[1])
            sequences += [tail, *(tail + continuation[:-1] for _, continuation in behind)]
            owners.append((len(sequences) - len(behind) - 1, behind))
        tree = TokenTree(sequences)
        paths = [tree.paths[at] for at, _ in owners]
        follow = [
            (request, tree.paths[at + n][len(path) - 1 :], tokens)
            for (at, behind), path in zip(owners, paths, strict=True)
            for n, (request, tokens) in enumerate(behind, 1)
        ]
        nodes = sorted({path[-1] for path in paths} | {node for _, wanted, _ in follow for node in wanted})
        place = {node: n for n, node in enumerate(nodes)}
        logits, cache = self.engine.read_tree(tree, self.prefix, nodes, keep_cache=True)
        scored = loglikelihoods(logits, [([place[node] for node in wanted], tokens) for _, wanted, tokens in follow])
        rows = [Row(i, len(path), self.prompts[i]) for i, path in zip(members, paths, strict=True)]
        first = self._next_tokens(logits[[place[path[-1]] for path in paths]], rows)
        self.slots.put(members, paths, [self.prompts[i] for i in members], cache)
        self.slots.append(members, first, self.settings)
        for i in members:
            self.given[i] = []
        return [(request, answer) for (request, _, _), answer in zip(follow, scored, strict=True)]

    def _step(self) -> None:
        rows = self.slots.rows
        logits = attempt(self.slots.forward, again=len(rows) > 1)
        if logits is None:  # the youngest start again later; the same text comes out
            self.waiting += [row.key for row in self.slots.take_youngest()]
            return
        self.engine.tokens_computed += len(rows)
        self.slots.append([row.key for row in rows], self._next_tokens(logits, rows), self.settings)

    def _next_tokens(self, logits, rows: Sequence[Row]) -> list[int]:
        """One token a row; halves what does not fit, as the step itself is done and cannot be repeated."""
        found = attempt(lambda: self._chosen(logits, rows), again=len(rows) > 1)
        if found is not None:
            return found
        half = len(rows) // 2
        return self._next_tokens(logits[:half], rows[:half]) + self._next_tokens(logits[half:], rows[half:])

    def _chosen(self, logits, rows: Sequence[Row]) -> list[int]:
        logits = self.settings.adjusted(logits, rows)
        if not self.settings.temperature:
            return greedy_choice(logits)
        where = [(self.keys[row.key], len(row.tokens)) for row in rows]
        return coupled_choice(logits.float() / self.settings.temperature, where)
