"""The tree of tokens: every sequence is a path, and a node sees its ancestors and nothing else."""

from __future__ import annotations

import random

import pytest

from harness.token_tree import TokenTree, common_length, packs, shared_prefix, split_by_prefix


def random_sequences(seed: int, count: int) -> list[list[int]]:
    draw = random.Random(seed)
    return sorted([draw.randrange(3) for _ in range(draw.randrange(1, 9))] for _ in range(count))


def seen_by(tree: TokenTree, least: int) -> dict[int, list[int]]:
    """Node -> the nodes that it attends to under the tree's segments."""
    seen = {}
    for part in tree.segments(least):
        keys = [node for run in (*part.above, (part.start, part.stop)) for node in range(*run)]
        for at, node in enumerate(range(part.start, part.stop)):
            if part.mask is None:
                seen[node] = keys[: at + 1]
            else:
                seen[node] = [keys[n] for n in (part.mask[at] == 0).nonzero().flatten().tolist()]
    assert list(seen) == list(range(len(tree.tokens)))
    return seen


@pytest.mark.parametrize("least", [1, 3, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_each_path_spells_its_sequence_and_sees_itself_alone(seed, least):
    sequences = random_sequences(seed, 12)
    tree = TokenTree(sequences)
    seen = seen_by(tree, least)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert [tree.tokens[node] for node in path] == sequence
        assert [tree.depths[node] for node in path] == list(range(len(sequence)))
        for at, node in enumerate(path):
            assert seen[node] == path[: at + 1]


def test_unrelated_sequences_and_what_hangs_from_a_long_chain_are_attended_to_apart():
    chain = list(range(50))
    tree = TokenTree([[*chain, *[100 + n] * 40] for n in range(3)] + [[200 + n] * 60 for n in range(2)])
    assert [(part.stop - part.start, part.above) for part in tree.segments(least=30)] == [
        (50, ()), (40, ((0, 50),)), (40, ((0, 50),)), (40, ((0, 50),)), (60, ()), (60, ())
    ]  # fmt: skip


def test_a_common_start_is_one_run_of_nodes():
    assert len(TokenTree([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 9]]).tokens) == 6


def test_common_starts():
    assert common_length([1, 2, 3], [1, 2]) == 2
    assert shared_prefix([[1, 2, 3], [1, 2, 9], [1, 2]]) == 2
    assert shared_prefix([]) == 0


def test_a_long_shared_start_of_a_large_group_is_kept_apart():
    block = list(range(100))
    sequences = [[*block, n, n + 1] for n in range(40)] + [[500, n] for n in range(3)]
    groups = split_by_prefix(sequences, budget=120, worth=64)
    assert [(length, sorted(members)) for length, members in groups] == [(100, list(range(40))), (0, [40, 41, 42])]


def test_every_sequence_is_in_one_group_and_one_pack():
    sequences = random_sequences(5, 40)
    groups = split_by_prefix(sequences, budget=10, worth=2)
    assert sorted(i for _, members in groups for i in members) == list(range(40))
    for length, members in groups:
        runs = packs(members, sequences, length, budget=10)
        assert [i for run in runs for i in run] == members


def test_packs_count_what_neighbours_share_once():
    sequences = [[1] * 50 + [n] for n in range(30)]
    assert len(packs(range(30), sequences, 0, budget=80)) == 1
