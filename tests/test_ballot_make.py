"""The command: both models answer by the engine, through the store; bad input ends in one sentence and status 4."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.ballot.__main__ import main
from harness.ballot.answers import write_answers, writers
from harness.ballot.key import read_key
from harness.ballot.make import plan_lines
from harness.ballot.page import read_page
from harness.ballot.prompts import draw, prompt_id, read_pairs, read_prompts
from harness.specs import Unusable
from tests.conftest import save_adapter
from tests.voting import hand_back, planted

PROMPTS = [f"Write a line about river {n}." for n in range(4)]
ROOT = Path(__file__).resolve().parent.parent


def jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def prompts(tmp_path) -> Path:
    return jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])


@pytest.fixture
def answers(tmp_path) -> Path:
    rows = [{"prompt": prompt, "base": f"b {n}", "candidate": f"c {n}"} for n, prompt in enumerate(PROMPTS)]
    return jsonl(tmp_path / "answers.jsonl", rows)


def ready(base, candidate, store, **options):
    return writers(str(base), str(candidate), store=store, device="cpu", max_gen_toks=12, **options)


def test_both_models_answer_and_a_second_time_from_the_store(tmp_path, tiny_base, tiny_adapter, monkeypatch):
    first = write_answers(ready(tiny_base, tiny_adapter, tmp_path / "store"), PROMPTS)
    pairs, faults = first
    assert [pair.prompt for pair in pairs] == PROMPTS
    assert any(pair.base != pair.candidate for pair in pairs)
    assert set(faults) == {"base", "candidate"}
    again = ready(tiny_base, tiny_adapter, tmp_path / "store")
    monkeypatch.setattr(type(again.models), "_load", lambda *_: pytest.fail("a model was loaded for stored answers"))
    assert write_answers(again, PROMPTS) == first
    assert write_answers(again, PROMPTS[::-1])[0] == pairs[::-1], "answers belong to prompts, not to places"


def test_the_answer_is_the_models_greedy_one(tmp_path, tiny_base, tiny_adapter):
    pairs, _ = write_answers(ready(tiny_base, tiny_adapter, tmp_path / "store"), PROMPTS[:2])
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPTS[0]}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(turn, return_tensors="pt").input_ids
    with torch.inference_mode():
        wrote = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert pairs[0].base == tokenizer.decode(wrote, skip_special_tokens=True)


def test_sampled_answers_of_a_base_and_its_copy_are_the_same(tmp_path, tiny_base, copy):
    hot = ready(tiny_base, copy, tmp_path / "store", temperature=1.0, seed=1)
    pairs, _ = write_answers(hot, PROMPTS[:2])
    assert all(pair.base == pair.candidate for pair in pairs)
    cold, _ = write_answers(ready(tiny_base, copy, tmp_path / "store"), PROMPTS[:2])
    assert [pair.base for pair in cold] != [pair.base for pair in pairs]


def test_an_idle_adapter_is_refused_before_anything_is_written(tmp_path, tiny_base, prompts, capsys):
    idle = save_adapter(tmp_path / "idle", tiny_base, scale=0.0)
    given = [
        "--prompts",
        str(prompts),
        "--base",
        str(tiny_base),
        "--candidate",
        str(idle),
        "--store",
        str(tmp_path / "s"),
    ]
    assert main(["make", *given, "--device", "cpu", "--out", str(tmp_path / "out")]) == 4
    assert "changes no logit of its base" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_from_prompts_to_a_verdict_on_the_command_line(tmp_path, tiny_base, tiny_adapter, prompts, capsys):
    def command(*words):
        return main([str(word) for word in words]), *capsys.readouterr()

    out = tmp_path / "out"
    status, said, _ = command(
        "make", "--prompts", prompts, "--base", tiny_base, "--candidate", tiny_adapter, "--out", out,
        "--store", tmp_path / "store", "--device", "cpu", "--max-tokens", 8,
    )  # fmt: skip
    assert status == 0
    assert said.startswith("4 prompts, 3 editors; the prompt is the unit; each bound at 95%")
    key, pairs = read_key(out / "gate" / "key.json"), read_pairs(out / "gate" / "answers.jsonl")
    assert (key.base["spec"], key.candidate["spec"]) == (str(tiny_base), str(tiny_adapter))
    assert key.asked["max_gen_toks"] == 8
    assert [pair.prompt for pair in pairs] == PROMPTS
    assert {q.prompt for q in read_page(out / "ballot-2.html").questions} == set(PROMPTS)
    votes = hand_back(tmp_path / "votes", key, pairs, planted(key, 0, rates=(0.0, 0.0, 1.0)))
    status, said, _ = command("judge", "--key", out / "gate" / "key.json", "--votes", votes)
    assert status == 1
    assert "MISSED (exit 1): the win rate is shown to be below 60%: 0.0% [0.0, " in said
    (votes / "votes-3.json").write_text("{}")
    status, _, refused = command("judge", "--key", out / "gate" / "key.json", "--votes", votes)
    assert (status, refused.count("\n")) == (4, 1)
    assert not (out / "gate" / "head-to-head.json").exists(), "a verdict does not outlive votes that are refused"


def test_given_texts_need_no_model(tmp_path, answers):
    given = ["make", "--answers", str(answers), "--base", "old", "--candidate", "new", "--out", str(tmp_path / "o")]
    code = f"import sys; from harness.ballot.__main__ import main; main({given}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("False"), done.stderr
    key = read_key(tmp_path / "o" / "gate" / "key.json")
    assert key.base["spec"] == "old"
    assert key.base["digest"] != key.candidate["digest"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "there is nothing to ask; name prompts with --prompts FILE, or answers with --answers FILE."),
        (
            ["--answers", "A", "--items", "9"],
            "--items 9 is more than the 4 prompts there are; write fewer, or add some.",
        ),
        (["--answers", "A", "--items", "1"], "--items 1 is no number of prompts; write 2 or more, 50 are usual."),
        (["--answers", "A", "--editors", "0"], "--editors 0 is no number of editors; write 1 or more, 3 are usual."),
        (["--answers", "A", "--repeats", "5"], "--repeats 5 is out of range; write a number from 0 to the 4 prompts."),
        (["--answers", "A", "--target", "100"], "--target 100 is no win rate; write a number between 1 and 100, as"),
        (["--answers", "A", "--target", "0.6"], "--target 0.6 is no win rate; write a number between 1 and 100, as in"),
        (["--answers", "none.jsonl"], "'none.jsonl' does not exist; name a JSONL file of"),
        (["--prompts", "P"], "model 'old' has no form that is known; write one of"),
        (["--answers", "A", "--editors", "many"], "argument --editors: invalid int value: 'many'; see --help."),
    ],
)
def test_bad_input_is_one_sentence_and_status_4(tmp_path, prompts, answers, capsys, words, text):
    words = [{"A": str(answers), "P": str(prompts)}.get(word, word) for word in words]
    out = tmp_path / "out"
    assert main(["make", "--base", "old", "--candidate", "new", "--out", str(out), *words]) == 4
    assert f"ERROR: {text}" in capsys.readouterr().err
    assert not out.exists()


def test_ballots_are_never_made_over_others(tmp_path, answers, capsys):
    words = ["make", "--answers", str(answers), "--base", "b", "--candidate", "c", "--out", str(tmp_path)]
    assert main(words) == 0
    before = (tmp_path / "gate" / "key.json").read_bytes()
    assert main(words) == 4
    assert "has ballots already, whose votes a new key would not know; name another" in capsys.readouterr().err
    assert (tmp_path / "gate" / "key.json").read_bytes() == before


def test_two_head_to_heads_share_no_secret(tmp_path, answers):
    for name in ("one", "two"):
        main(["make", "--answers", str(answers), "--base", "b", "--candidate", "c", "--out", str(tmp_path / name)])
    assert read_key(tmp_path / "one/gate/key.json").secret != read_key(tmp_path / "two/gate/key.json").secret


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{", r'prompts.jsonl line 2 is no {"prompt"} with text; correct or remove it.'),
        ('{"prompt": " "}', r'prompts.jsonl line 2 is no {"prompt"} with text'),
        ('{"prompt": 3}', r'prompts.jsonl line 2 is no {"prompt"} with text'),
        ('{"prompt": "\\ud800"}', r'prompts.jsonl line 2 is no {"prompt"} with text'),
        ('["prompt"]', r'prompts.jsonl line 2 is no {"prompt"} with text'),
        ('{"prompt": "a"}', "prompts.jsonl line 2 repeats the prompt of line 1; remove one of them."),
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path, line, text):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n' + line + "\n")
    with pytest.raises(Unusable) as error:
        read_prompts(path)
    assert text in str(error.value)


def test_an_empty_answer_is_an_answer(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "base": "", "candidate": "c"}])
    assert read_pairs(path)[0].base == ""
    with pytest.raises(Unusable, match="holds no row"):
        read_pairs(jsonl(tmp_path / "none.jsonl", []))


def test_a_draw_depends_on_the_prompts_and_not_on_their_order():
    listed = [f"prompt {n}" for n in range(200)]
    drawn = draw(listed, 50)
    assert len(drawn) == 50
    assert drawn == sorted(drawn, key=listed.index)
    assert set(draw(listed[::-1], 50)) == set(drawn) == set(draw(drawn, 90))
    assert set(draw(listed, 20)) < set(drawn)
    assert len(prompt_id("a")) == 16


def test_answers_of_some_prompts_alone_are_refused(tmp_path, answers, capsys):
    more = jsonl(tmp_path / "more.jsonl", [{"prompt": prompt} for prompt in [*PROMPTS, "Another."]])
    words = ["--prompts", str(more), "--answers", str(answers), "--base", "b", "--candidate", "c"]
    assert main(["make", *words, "--out", str(tmp_path / "o")]) == 4
    assert "lack 1 of 5 prompts, the first of them 'Another.'" in capsys.readouterr().err


def test_what_the_design_can_show_is_said_in_advance():
    said = "\n".join(plan_lines(50, 3, 0.6))
    assert "that a true 60% is above 50% with a chance of 0.72 / 0.60 / 0.52" in said
    assert "that a true 65% is above 60% with a chance of 0.29 / 0.24 / 0.21" in said
    assert "for a chance of 0.80 it takes 234 / 311 / 389 prompts" in said
    assert plan_lines(50, 3, 0.6, simulated=True)[0].startswith("SIMULATED")
    assert "above 50%" not in "\n".join(plan_lines(50, 3, 0.5)).replace("that a true 55% is above 50%", "")
