"""Preference pairs as they are read: what is refused, by file and line, and what is only counted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.pairs import Pair, look_through, pairs_digest, read_pairs, write_pairs
from harness.specs import Unusable

ROW = {"prompt": "Who?", "chosen": "The 40 pupils.", "rejected": "Many pupils."}
PAIR = Pair("1", **ROW)


def written(tmp_path, *rows):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_pairs_are_read_with_their_labels_and_other_keys_are_ignored(tmp_path):
    path = written(
        tmp_path, ROW | {"id": "a7", "editor": "E", "fault": "vague", "source": 3}, ROW | {"category": "tone"}
    )
    one, two = read_pairs(path)
    assert one == Pair("a7", **ROW, editor="E", fault="vague")
    assert (two.category, two.editor, len(two.id)) == ("tone", None, 16)


def test_what_is_written_is_read_back(tmp_path):
    pairs = [replace(PAIR, editor="É", fault="vague\u2028claim"), Pair("2", "a", "b", "c", category="tone")]
    write_pairs(pairs, tmp_path / "pairs.jsonl")
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs


def test_an_id_depends_on_the_texts_and_the_same_pair_twice_has_two(tmp_path):
    swapped = ROW | {"chosen": ROW["rejected"], "rejected": ROW["chosen"]}
    ids = [pair.id for pair in read_pairs(written(tmp_path, ROW, swapped, ROW))]
    assert len(set(ids)) == 3
    assert [pair.id for pair in read_pairs(written(tmp_path, swapped, ROW, ROW))] == [ids[1], ids[0], ids[2]]


REFUSED = {
    "[]": 'pairs.jsonl line 2 is no {"prompt", "chosen", "rejected"} with text in all three; correct or remove it.',
    "no json": "pairs.jsonl line 2 is no",
    json.dumps(ROW | {"chosen": " "}): "pairs.jsonl line 2 is no",
    json.dumps(ROW | {"prompt": ["a"]}): "pairs.jsonl line 2 is no",
    json.dumps(ROW | {"rejected": "\ud83d"}): "pairs.jsonl line 2 is no",
    json.dumps({"prompt": "a", "chosen": "b"}): "pairs.jsonl line 2 is no",
    json.dumps(ROW | {"chosen": "Many pupils. "}): "line 2 has the same text as chosen and as rejected; no answer is",
    json.dumps(ROW | {"editor": 7}): "line 2 has the editor 7, which is no text; write a name, or leave it out.",
    json.dumps(ROW | {"id": "x"}): "line 2 has the id 'x' of line 1; give each pair an id of its own, or none.",
}


@pytest.mark.parametrize(("line", "sentence"), REFUSED.items())
def test_a_line_that_is_no_pair_is_named_in_one_sentence(tmp_path, line, sentence):
    path = written(tmp_path, ROW | {"id": "x"})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(Unusable) as caught:
        read_pairs(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_pairs_is_said(tmp_path):
    with pytest.raises(Unusable, match="does not exist; name a JSONL file"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(Unusable, match="holds no row"):
        read_pairs(written(tmp_path))


def test_duplicates_and_contradictions_are_counted():
    other = replace(PAIR, prompt="When?")
    against = replace(PAIR, chosen=PAIR.rejected, rejected=PAIR.chosen)
    found = look_through([PAIR, other, PAIR, against, PAIR])
    assert (found.pairs, found.prompts, found.duplicates, found.contradictions) == (5, 2, 2, 2)
    assert found.most_accurate == 4 / 5  # one side of the contradiction is always wrong
    assert "5 pairs of 2 prompts; 2 repeat an earlier pair and 2 contradict one." in found.sentence()
    assert look_through([PAIR, other]).most_accurate == 1


def test_the_digest_changes_with_what_is_asked_and_not_with_labels():
    assert pairs_digest([PAIR]) == pairs_digest([replace(PAIR, fault="vague", editor="E")])
    assert pairs_digest([PAIR]) != pairs_digest([replace(PAIR, chosen="x")])
