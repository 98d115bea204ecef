"""The tree of tokens: every sequence is a path, and a node sees its ancestors and nothing else."""

from __future__ import annotations

import random

import pytest

from harness.token_tree import TokenTree, common_length, packs, shared_prefix, split_by_prefix, split_for_writing


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


def test_a_short_start_that_many_share_is_read_once_and_does_not_tie_them_together():
    tree = TokenTree([[1, 2, 3, *[100 + n] * 40] for n in range(3)])
    assert [(part.stop - part.start, part.above) for part in tree.segments(least=30)] == [
        (3, ()), (40, ((0, 3),)), (40, ((0, 3),)), (40, ((0, 3),))
    ]  # fmt: skip
    assert len(TokenTree([[1, 2, 3, *[100 + n] * 40] for n in range(2)]).segments(least=30)) == 1  # not worth it


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


def blocks(*counts: int) -> list[list[int]]:
    """Prompts behind blocks of 100 tokens each, so many behind each block, of unlike length."""
    return [[1000 * b + n for n in range(100)] + [5, 6] * (k % 4) + [k] for b, c in enumerate(counts) for k in range(c)]


def test_each_block_that_many_prompts_share_is_written_by_itself_and_the_others_together():
    prompts = blocks(20, 2, 20, 1)
    found = split_for_writing(prompts, budget=150, slots=8, least=1000)
    assert [(length, sorted(group)) for length, group in found] == [
        (100, [*range(20)]), (100, [*range(22, 42)]), (0, [20, 21, 42])
    ]  # fmt: skip
    lengths = [len(prompts[i]) for i in found[0][1]]
    assert lengths == sorted(lengths)


def test_what_is_read_in_one_pass_needs_no_group_of_its_own():
    assert len(split_for_writing(blocks(9, 9), budget=110, slots=18, least=0)) == 2
    assert len(split_for_writing(blocks(9, 9), budget=5000, slots=18, least=0)) == 1
    assert len(split_for_writing(blocks(9, 9), budget=5000, slots=17, least=0)) == 2  # they are not read at once


def test_families_that_stay_together_stand_side_by_side():
    prompts = blocks(2, 3, 2)
    [(length, order)] = split_for_writing(prompts, budget=150, slots=8, least=10**6)
    assert length == 0
    assert [prompts[i][0] for i in order] == [0, 0, 2000, 2000, 1000, 1000, 1000]


@pytest.mark.parametrize("least", [0, 10, 1000])
def test_every_prompt_is_written_in_one_group_whose_start_it_has(least):
    prompts = [[7, *sequence] for sequence in random_sequences(6, 40)]
    groups = split_for_writing(prompts, budget=10, slots=3, least=least, worth=2)
    assert sorted(i for _, members in groups for i in members) == list(range(40))
    for length, members in groups:
        assert len({tuple(prompts[i][:length]) for i in members}) == 1
        assert all(len(prompts[i]) > length for i in members)
