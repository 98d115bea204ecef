"""A whole audit in seconds: lm-eval tasks of our own on tiny models, run through the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import forked

ROOT = Path(__file__).resolve().parent.parent
SHOTS = 8
WORDS = [
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "fjord",
    "grove",
    "heath",
    "islet",
    "jetty",
    "knoll",
    "larch",
    "marsh",
    "notch",
    "oasis",
    "ridge",
]

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {docs}, dev: {shots}}}}}
output_type: multiple_choice
test_split: test
fewshot_split: dev
fewshot_config: {{sampler: first_n}}
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""

WRITE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {docs}}}}}
output_type: generate_until
test_split: test
num_fewshot: 0
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{gold}}}}"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 12}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


def write_tasks(folder: Path, items: int = 40) -> Path:
    """tiny_choice and tiny_write, with documents drawn by rule."""
    folder.mkdir(parents=True, exist_ok=True)
    docs = [
        {
            "question": f"{WORDS[n % 16]} {WORDS[n * 7 % 16]} {n}?",
            "choices": [WORDS[(n + k) % 16] for k in (1, 4, 9)],
            "answer": n % 3,
            "gold": WORDS[n % 16],
        }
        for n in range(items + SHOTS)
    ]
    for name, rows in (("docs", docs[:items]), ("shots", docs[items:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("tiny_choice", CHOICE), ("tiny_write", WRITE)):
        paths = {"docs": folder / "docs.jsonl", "shots": folder / "shots.jsonl"}
        (folder / f"{name}.yaml").write_text(text.format(name=name, **paths))
    return folder


def teach(model_path: Path, folder: Path, steps: int = 80) -> Path:
    """A copy of a tiny model that has learned the answers of both tasks, so that it has something to forget.

    Each step learns a quarter of each; the two are apart, as the shots make one's rows ten times as long.
    """
    docs, shots = (
        [json.loads(row) for row in (folder / f"{name}.jsonl").read_text().splitlines()] for name in ("docs", "shots")
    )
    block = "".join(f"Q: {d['question']}\nA: {d['choices'][d['answer']]}\n\n" for d in shots[:4])
    chosen = [f"{block}Q: {d['question']}\nA: {d['choices'][d['answer']]}" for d in docs]
    written = [f"<|user|>{d['question']}</s><|assistant|>{d['gold']}" for d in docs]
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    quarters = [
        [tokenizer(texts[n::4], return_tensors="pt", padding=True, padding_side="right") for texts in (chosen, written)]
        for n in range(4)
    ]
    model = AutoModelForCausalLM.from_pretrained(model_path).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for step in range(steps):
        for rows in quarters[step % 4]:
            labels = rows.input_ids.masked_fill(rows.attention_mask == 0, -100)
            model(**rows, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    taught = folder / "taught"
    model.save_pretrained(taught)
    tokenizer.save_pretrained(taught)
    return taught


def write_basket(folder: Path, items: int = 40, **changes: str) -> Path:
    """A basket of both tasks with so many items; `changes` replaces or adds lines of its benchmarks by name."""
    lines = {
        "choices": 'task = "tiny_choice"\nfewshot = 4\nmetric = "choice_prob"\nmargin = 10.0',
        "letters": (
            'task = "tiny_write"\nmetric = "gold_prob_per_byte"\ngold = "{{ gold }}"\nmargin = 10.0\nchat = true'
        ),
    }
    lines |= changes
    tasks = write_tasks(folder / "tasks", items)
    text = f'name = "tiny"\nseeds = [0, 1]\ntasks = "{tasks}"\n'
    text += "".join(f'\n[[benchmark]]\nname = "{name}"\n{body}\n' for name, body in lines.items())
    path = folder / "basket.toml"
    path.write_text(text)
    return path


def command(
    folder: Path, base: Path, *candidates: Path, basket: Path | None = None, more: tuple[str, ...] = ()
) -> list[str]:
    """The command line of a gate run whose store and reports lie in `folder`."""
    given = [sys.executable, "-m", "pytest", "-m", "forgetting", "-p", "no:cacheprovider", f"--base={base}"]
    given += [f"--candidate={candidate}" for candidate in candidates]
    given += [f"--basket={basket or write_basket(folder)}", f"--out={folder / 'out'}", f"--store={folder / 'store'}"]
    return [*given, "--device=cpu", *more]


def run(
    folder: Path, base, *candidates, sabotage: str = "", fresh: bool = False, **options
) -> subprocess.CompletedProcess:
    """Runs the gate to its end in a process of its own; `sabotage` as in tests/sabotage.py.

    fresh: in an interpreter of its own, as users start it, which imports everything itself.
    """
    given = command(folder, base, *candidates, **options)
    given[5:5] = ["-p", "tests.sabotage"] if sabotage else []
    env = {**environment(), "LETHE_SABOTAGE": sabotage}
    if not fresh:
        return forked.run(given[1:], env)
    return subprocess.run(given, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def environment() -> dict[str, str]:
    """One thread, no hub, and this folder importable."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def verdict_of(folder: Path) -> dict:
    """verdict.json without what differs from run to run."""
    document = json.loads((folder / "out" / "verdict.json").read_text())
    return {key: value for key, value in document.items() if key != "created"}
