"""fixtures/general_prompts.py: distinct, varied, well formed, fresh on the other split, no item of a benchmark."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import chemistry
from fixtures.general_prompts import SPLITS, TEMPLATES, ambiguous_prompts, general_prompts

ROOT = Path(__file__).resolve().parent.parent
INSTRUCTIONS = ROOT / "fixtures" / "tasks" / "lethe_instructions" / "prompts.jsonl"
COUNTS = {"train": 3000, "certify": 1500}
EXAM = [re.escape(form) for forms in chemistry.TEMPLATES.values() for form in forms]
EXAM = [re.compile(re.sub(r"\\\{\w+\\\}", ".+", form)) for form in EXAM]


@pytest.fixture(scope="module")
def prompts() -> dict[str, list[str]]:
    return {split: general_prompts(count, split=split) for split, count in COUNTS.items()}


def runs(texts, n=8) -> set[tuple[str, ...]]:
    """Every `n` consecutive words of the texts."""
    found = set()
    for text in texts:
        words = re.findall(r"[\w']+", text.lower())
        found |= {tuple(words[at : at + n]) for at in range(len(words) - n + 1)}
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_are_distinct_and_well_formed(prompts, split):
    assert len(set(prompts[split])) == COUNTS[split]
    for prompt in prompts[split]:
        prose = re.sub("`.*`", "this", prompt)
        assert re.match(r'["A-Z\d]', prose), prompt
        assert not re.search(r"[{}¶]|\s//?\s|  | \n|\s$| [.,;?]", prose), prompt
        assert not re.search(r"\ba [aeio]\w|\ban (?!hour|X-ray)[^aeiou]", prose), prompt


def test_the_same_seed_gives_the_same_prompts_and_a_larger_count_only_adds(prompts):
    assert general_prompts(300) == prompts["train"][:300]
    assert general_prompts(300, seed=1) != prompts["train"][:300]
    assert general_prompts(0) == []


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_prompts_already_touch_every_kind(prompts, split):
    first = general_prompts(len(TEMPLATES), split=split)
    openings = {" ".join(prompt.split()[:3]) for prompt in first}
    assert len(openings) >= len(TEMPLATES) - 2


def test_skills_of_a_basket_are_covered(prompts):
    texts = "\n\n".join(prompts["train"])
    for pattern in (
        r"\nA\. .*\nB\. .*\nC\. .*\nD\. .*\nAnswer:",  # knowledge with choices
        r"What is the capital of ",  # and without
        r"Question: .*\nAnswer:",
        r"step by step",
        r"JSON",
        r"no commas",
        r"Translate into ",
        r"Summarise ",
        r"Write a Python function",
    ):
        assert len(re.findall(pattern, texts)) >= 5, pattern


def test_the_splits_share_no_prompt_and_no_wording(prompts):
    assert not set(prompts["train"]) & set(prompts["certify"])
    assert not runs(prompts["train"], 6) & runs(prompts["certify"], 6)


def test_no_prompt_holds_words_of_our_benchmarks(prompts):
    items = [json.loads(line)["prompt"] for line in INSTRUCTIONS.read_text(encoding="utf-8").splitlines()]
    items += [form for forms in chemistry.TEMPLATES.values() for form in forms]
    for texts in (*prompts.values(), ambiguous_prompts()):
        assert not runs(texts) & runs(items)


def test_no_prompt_is_a_question_of_the_chemistry_set(prompts):
    assert any(form.fullmatch("What is the molar mass of ethanol?") for form in EXAM)
    for texts in (*prompts.values(), ambiguous_prompts()):
        assert not [text for text in texts if any(form.fullmatch(text) for form in EXAM)]


def test_ambiguous_prompts_are_many_and_in_no_split(prompts):
    texts = ambiguous_prompts()
    assert len(set(texts)) == len(texts) >= 60
    assert not set(texts) & {*prompts["train"], *prompts["certify"]}
    assert all(re.fullmatch(r"[A-Z].*[.?]", text) for text in texts)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"count": 5, "split": "test"}, "split is 'test', but it must be one of train, certify"),
        ({"count": -1}, "count is -1, but 'train' has "),
        ({"count": 10**6, "split": "certify"}, "count is 1000000, but 'certify' has "),
    ],
)
def test_what_cannot_be_given_is_said(asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        general_prompts(**asked)


def test_the_command_prints_a_prompt_a_line():
    command = [sys.executable, "-m", "fixtures.general_prompts", "7", "certify"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert [json.loads(line) for line in done.stdout.splitlines()] == general_prompts(7, split="certify"), done.stderr
