"""A tree of tokens laid out as one sequence: what several requests share is read once.

Nodes stand in depth-first order, so the descendants of a node are a run right behind it, and "i may look at j" is
"j is not behind i and i lies in j's run". The same idea serves tree-structured speculative decoding (Miao et al. 2024,
SpecInfer, arXiv:2305.09781).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


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

    def mask(self, prefix: int = 0) -> torch.Tensor:
        """bool [nodes, prefix + nodes]: which cached prefix tokens and which nodes each node attends to."""
        order = torch.arange(len(self.tokens))
        ends = torch.tensor(self._ends)
        ancestors = (order[:, None] >= order[None, :]) & (order[:, None] < ends[None, :])
        return torch.cat([torch.ones(len(order), prefix, dtype=torch.bool), ancestors], dim=1)


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common start of two sequences."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def shared_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the start that all sequences share: the smallest and the largest of a sorted list decide it."""
    return common_length(min(sequences), max(sequences)) if sequences else 0


def split_by_prefix(sequences: Sequence[Sequence[int]], budget: int, worth: int) -> list[tuple[int, list[int]]]:
    """Groups sequences for reading: [(length of the prefix to read first and keep, indices of the members)].

    Neighbours in sorted order stay together while they share at least half of what their group shares. A group whose
    whole tree fits into one pass of `budget` tokens, or that shares less than `worth`, keeps nothing apart (length 0).
    """
    groups: list[tuple[int, list[int]]] = []
    for i in sorted(range(len(sequences)), key=lambda i: sequences[i]):
        if groups:
            length, members = groups[-1]
            shared = common_length(sequences[members[0]][:length], sequences[i])
            if shared >= worth and 2 * shared >= length:
                groups[-1] = (shared, [*members, i])
                continue
        groups.append((len(sequences[i]), [i]))
    kept, loose = [], []
    for length, members in groups:
        fresh = sum(len(sequences[i]) - length for i in members)
        if len(members) > 1 and length + fresh > budget:
            kept.append((length, members))
        else:
            loose += members
    return kept + ([(0, loose)] if loose else [])


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
