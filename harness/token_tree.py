"""A tree of tokens laid out as one sequence: what several requests share is read once.

Nodes stand in depth-first order, so the descendants of a node are a run right behind it, and "i may look at j" is
"j is not behind i and i lies in j's run". The same idea serves tree-structured speculative decoding (Miao et al. 2024,
SpecInfer, arXiv:2305.09781).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.attention import Segment

WORTH_SHARING = 64  # a common prefix shorter than this is cheaper to repeat than to keep apart
WIDE = 4  # times `least`: what hangs from a chain is cut apart from that size on, however short the chain is


class TokenTree:
    """The tree over the given token sequences, which must be sorted so that those with a common start are neighbours.

    tokens, depths: one entry a node; paths[k]: the nodes of sequence k from its first token to its last.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]):
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.paths: list[list[int]] = []
        self._ends: list[int] = []  # one past the last descendant of a node
        path: list[int] = []
        for sequence in sequences:
            path = path[: common_length([self.tokens[node] for node in path], sequence)]
            for token in sequence[len(path) :]:
                self.depths.append(len(path))
                path.append(len(self.tokens))
                self.tokens.append(token)
                self._ends.append(len(self.tokens))
            for node in path:
                self._ends[node] = len(self.tokens)
            self.paths.append(list(path))

    def segments(self, least: int, dtype=torch.float32, device="cpu") -> list[Segment]:
        """Cuts the nodes into runs that attend to few keys in vain: unrelated sequences apart, common starts once.

        least: nodes below which a run is not worth an attention call of its own.
        """
        found: list[Segment] = []

        def add(start: int, stop: int, above: tuple[tuple[int, int], ...]) -> None:
            if start < stop:
                before = sum(b - a for a, b in above)
                found.append(Segment(start, stop, above, self._mask(start, stop, before, dtype, device)))

        def cut(start: int, stop: int, above: tuple[tuple[int, int], ...]) -> None:
            node = start
            while node < stop:
                end = self._ends[node]
                fork = self._fork(node)
                if end - fork >= least and (fork - node >= least or end - fork >= WIDE * least):
                    add(start, node, above)
                    add(node, fork, above)
                    cut(fork, end, (*above, (node, fork)))
                    start = end
                elif end - start >= least:
                    add(start, end, above)
                    start = end
                node = end
            add(start, stop, above)

        cut(0, len(self.tokens), ())
        return found

    def _fork(self, node: int) -> int:
        """One past the last node of the chain that starts here: where sequences part, or the end of the only one."""
        end, last = self._ends[node], node + 1
        while last < end and self._ends[last] == end:
            last += 1
        return last

    def _mask(self, start: int, stop: int, before: int, dtype, device) -> torch.Tensor | None:
        if not before and self._fork(start) == stop:
            return None
        order = torch.arange(start, stop)
        ends = torch.tensor(self._ends[start:stop])
        seen = (order[:, None] >= order[None, :]) & (order[:, None] < ends[None, :])
        mask = torch.zeros(stop - start, before + stop - start, dtype=dtype)
        mask[:, before:].masked_fill_(~seen, float("-inf"))
        return mask.to(device)


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common start of two sequences."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def shared_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the start that all sequences share: the smallest and the largest of a sorted list decide it."""
    return common_length(min(sequences), max(sequences)) if sequences else 0


def families(sequences: Sequence[Sequence[int]], worth: int) -> list[tuple[int, list[int]]]:
    """[(length of the start that the members share, indices of the members in sorted order)].

    Neighbours in sorted order stay together while they share at least half of what their family shares, and at least
    `worth` tokens. A family of one shares all of itself.
    """
    found: list[tuple[int, list[int]]] = []
    for i in sorted(range(len(sequences)), key=lambda i: sequences[i]):
        if found:
            length, members = found[-1]
            shared = common_length(sequences[members[0]][:length], sequences[i])
            if shared >= worth and 2 * shared >= length:
                found[-1] = (shared, [*members, i])
                continue
        found.append((len(sequences[i]), [i]))
    return found


def tree_size(length: int, members: Sequence[int], sequences: Sequence[Sequence[int]]) -> int:
    """Tokens of a family's tree if its members share no more than their common start of `length`."""
    return length + sum(len(sequences[i]) - length for i in members)


def split_by_prefix(
    sequences: Sequence[Sequence[int]], budget: int, worth: int = WORTH_SHARING
) -> list[tuple[int, list[int]]]:
    """Groups sequences for scoring: [(length of the prefix to read first and keep, indices of the members)].

    A family whose whole tree fits into one pass of `budget` tokens keeps nothing apart (length 0).
    """
    kept, loose = [], []
    for length, members in families(sequences, worth):
        if len(members) > 1 and tree_size(length, members, sequences) > budget:
            kept.append((length, members))
        else:
            loose += members
    return kept + ([(0, loose)] if loose else [])


def split_for_writing(
    prompts: Sequence[Sequence[int]], budget: int, slots: int, least: int, worth: int = WORTH_SHARING
) -> list[tuple[int, list[int]]]:
    """Groups prompts to be written one group after another: [(length of the prefix to keep, indices in good order)].

    At the end of a group few rows are left in the slots. So a family (a few-shot block, one seed's draw of it) gets a
    group of its own where it cannot be read in one pass anyway and this saves at least `least` tokens; all others stay
    together, families side by side and else the shorter first, with what all of them share.
    """
    inputs = [prompt[:-1] for prompt in prompts]  # the last token is read with each row
    kept, rest = [], []
    for length, members in families(inputs, worth):
        by_length = sorted(members, key=lambda i: (len(prompts[i]), prompts[i]))
        at_once = len(prompts) <= slots and tree_size(length, members, inputs) <= budget
        if at_once or (len(members) - 1) * length < least:
            rest.append(by_length)
        else:
            kept.append((length, by_length))
    rest.sort(key=lambda group: (len(prompts[group[-1]]), prompts[group[-1]]))
    loose = [i for group in rest for i in group]
    common = shared_prefix([inputs[i] for i in loose])
    return kept + ([(common if common >= worth and len(loose) > 1 else 0, loose)] if loose else [])


def packs(members: Sequence[int], sequences: Sequence[Sequence[int]], start: int, budget: int) -> list[list[int]]:
    """Cuts sorted members into runs whose trees hold about `budget` new tokens each (at least one member a run)."""
    runs: list[list[int]] = []
    size, last = 0, None
    for i in members:
        new = len(sequences[i]) - start
        extra = new if last is None else new - max(0, common_length(sequences[last], sequences[i]) - start)
        if runs and size + extra <= budget:
            runs[-1].append(i)
            size += extra
        else:
            runs.append([i])
            size = new
        last = i
    return runs
