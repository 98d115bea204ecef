"""A basket file: TOML -> Basket, and the options of the command line that win over it.

Whatever a basket must not hold is `Unusable`, in one sentence that ends in the remedy.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from harness.specs import GOLD_PROB, Basket, Benchmark, Experiment, Policy, Unusable

RUN_KEYS = (
    "base",
    "candidate",
    "out",
    "store",
    "backend",
    "device",
    "dtype",
    "mitigate",
    "trust_remote_code",
    "recipe",
    "greedy",
)
SWITCHES = ("trust_remote_code", "recipe", "greedy")
POLICY_WORDS = {
    "stopping": ("fixed", "early"), "estimand": ("benchmark", "population"), "multiplicity": ("holm", "none")
}  # fmt: skip
MIN_ITEMS = 30
LARGEST_SEED = 2**63 - 1  # of a column in the store


def load_basket(path: str | Path) -> Basket:
    """Reads a basket file; raises `Unusable` for what it must not hold (unknown keys, too few items, …)."""
    path, table = Path(path), read_toml(path)
    where = f"basket '{path.name}'"
    allowed = {"name", "seeds", "documents", "tasks", "policy", "mitigation", "run", "benchmark"}
    known_keys(table, allowed, where)
    benchmarks = tuple(_benchmark(row, where) for row in _list_of_tables(table.get("benchmark", []), where))
    _check_benchmarks(benchmarks, where)
    run, policy = table.get("run", {}), table.get("policy", {})
    _check_run(run, f"{where}, [run]")
    known_keys(policy, {f.name for f in fields(Policy)}, f"{where}, [policy]")
    documents = table.get("documents", "hub")
    if documents not in ("hub", "embedded"):
        raise Unusable(f'{where}: documents = {documents!r}; write "hub" or "embedded".')
    return Basket(
        name=_text(table, "name", where) or path.stem,
        benchmarks=benchmarks,
        seeds=check_seeds(table.get("seeds", [0]), where),
        documents=documents,
        tasks=_folder(path.parent, _text(table, "tasks", where), where),
        policy=_policy(policy, where),
        experiment=_experiment(table.get("mitigation"), path.parent, f"{where}, [mitigation]"),
        run=run,
        file=str(path),
    )


def read_toml(path: str | Path, example: str = "quick.toml") -> dict[str, Any]:
    """The table of a basket file; example: one that ships, for the message."""
    path = Path(path)
    if not path.is_file():
        raise Unusable(f"basket '{path}' does not exist; name a TOML file such as fixtures/baskets/{example}.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Unusable(f"basket '{path}' is not valid TOML ({error}); correct that line.") from None


def check_seeds(seeds: Any, where: str) -> tuple[int, ...]:
    """A non-empty list of distinct integers >= 0."""
    if not isinstance(seeds, list | tuple) or not seeds:
        raise Unusable(f"{where}: seeds = {seeds!r} is empty or no list; write at least one, as in [0, 1, 2].")
    if any(isinstance(s, bool) or not isinstance(s, int) or not 0 <= s <= LARGEST_SEED for s in seeds):
        raise Unusable(f"{where}: seeds = {list(seeds)} must be whole numbers from 0 up; write as in [0, 1, 2].")
    if len(set(seeds)) < len(seeds):
        raise Unusable(f"{where}: seeds = {list(seeds)} repeats a seed, which is no replicate; name each once.")
    return tuple(seeds)


def check_margin(value: Any, where: str) -> float:
    """A margin in points: above 0, at most 100."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
        raise Unusable(f"{where}: margin = {value!r} is no loss in points; write a number above 0 and up to 100.")
    return float(value)


def read_margins(texts: Sequence[str]) -> dict[str, float]:
    """The values of --margin, NAME=POINTS each, by benchmark; what they may be is checked by `with_options`."""
    margins = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            raise Unusable(f"--margin {text} is no NAME=POINTS; write as in --margin ifeval=5.") from None
    return margins


def with_options(
    basket: Basket,
    seeds: tuple[int, ...] | None = None,
    margins: dict[str, float] | None = None,
    stop_early: bool = False,
    greedy: bool = False,
) -> Basket:
    """The basket with seeds, margins and stopping rule of the command line, which win over the file's.

    greedy: nothing is sampled, whatever temperature the file asks for.
    """
    benchmarks = list(basket.benchmarks)
    for name, margin in (margins or {}).items():
        at = benchmarks.index(basket.named(name))
        benchmarks[at] = replace(benchmarks[at], margin=check_margin(margin, f"--margin {name}"))
    if seeds:
        benchmarks = [replace(b, seeds=()) for b in benchmarks]
    if greedy:
        benchmarks = [replace(b, temperature=0.0) for b in benchmarks]
    policy = replace(basket.policy, stopping="early") if stop_early else basket.policy
    return replace(basket, benchmarks=tuple(benchmarks), seeds=seeds or basket.seeds, policy=policy)


def _benchmark(row: dict[str, Any], where: str) -> Benchmark:
    name = row.get("name", "?")
    where = f"{where}, benchmark '{name}'"
    known_keys(row, {f.name for f in fields(Benchmark)}, where)
    missing = [key for key in ("name", "task") if not isinstance(row.get(key), str) or not row[key]]
    if missing:
        raise Unusable(f"{where} lacks {' and '.join(missing)}; write a text for each.")
    kinds = {"metric": str, "chat": bool, "temperature": int | float, "gold": str, "role": str}
    kinds |= {"items": int, "fewshot": int, "max_gen_toks": int, "floor": int | float}
    for key, kind in kinds.items():
        if key in row and (not isinstance(row[key], kind) or (isinstance(row[key], bool) and kind is not bool)):
            raise Unusable(f"{where}: {key} = {row[key]!r} is of the wrong kind; see README, 'Baskets'.")
    for key in ("items", "max_gen_toks"):
        if key in row and row[key] < 1:
            raise Unusable(f"{where}: {key} = {row[key]} must be at least 1; write a positive number or leave it out.")
    if row.get("items", MIN_ITEMS) < MIN_ITEMS:
        raise Unusable(f"{where}: items = {row['items']} can decide nothing; ask for at least {MIN_ITEMS}.")
    if row.get("temperature", 0) < 0 or row.get("fewshot", 0) < 0:
        raise Unusable(f"{where}: temperature and fewshot must not be negative; write 0 or more.")
    for key in ("temperature", "floor"):
        if not math.isfinite(row.get(key, 0)):
            raise Unusable(f"{where}: {key} = {row[key]} is no number; write a finite one.")
    if not 0 <= row.get("floor", 0) < 100:
        raise Unusable(f"{where}: floor = {row['floor']} is no score of guessing; write points from 0 to below 100.")
    for key in ("metric", "gold"):
        if row.get(key) == "":
            raise Unusable(f"{where}: {key} is empty; write a text or leave it out.")
    if row.get("role", "skill") not in ("skill", "domain"):
        raise Unusable(f'{where}: role = {row["role"]!r}; write "skill" (judged) or "domain" (the gain).')
    if row.get("answers", "all") not in ("all", "first"):
        raise Unusable(f'{where}: answers = {row["answers"]!r}; write "all" or "first" (the first seed alone).')
    if row.get("answers") == "first" and row.get("metric") != GOLD_PROB:
        raise Unusable(f'{where}: answers = "first" needs a metric that reads no answer; set metric = "{GOLD_PROB}".')
    values = dict(row)
    if "seeds" in row:
        values["seeds"] = check_seeds(row["seeds"], where)
    values["margin"] = check_margin(row.get("margin", Benchmark.margin), where)
    return Benchmark(**values)


def _check_benchmarks(benchmarks: tuple[Benchmark, ...], where: str) -> None:
    if not any(b.role == "skill" for b in benchmarks):
        raise Unusable(f"{where} has no benchmark to judge; add a [[benchmark]] table with name and task.")
    names = [b.name for b in benchmarks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Unusable(f"{where} has benchmark '{twice[0]}' twice; give each its own name.")


def _check_run(run: Any, where: str) -> None:
    """The option of each name as a text; candidate also as a list of them; switches as true or false."""
    known_keys(run, set(RUN_KEYS), where)
    for key, value in run.items():
        if key in SWITCHES:
            right, remedy = isinstance(value, bool), "true or false"
        else:
            texts = value if key == "candidate" and isinstance(value, list) else [value]
            right, remedy = all(isinstance(text, str) and text for text in texts), "a text"
        if not right:
            raise Unusable(f"{where}: {key} = {value!r} is of the wrong kind; write {remedy}.")


def _text(table: dict[str, Any], key: str, where: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise Unusable(f"{where}: {key} = {value!r} is no text; write one, or leave it out.")
    return value


def _folder(root: Path, name: str | None, where: str) -> str | None:
    """A folder named from where the basket lies, or absolutely."""
    if name is None:
        return None
    path = (root / name).resolve()
    if not path.is_dir():
        raise Unusable(f"{where}: tasks = {name!r} is no folder ({path}); name the one that holds your tasks.")
    return str(path)


def _policy(table: dict[str, Any], where: str) -> Policy:
    policy, where = Policy(**table), f"{where}, [policy]"
    if isinstance(policy.alpha, bool) or not isinstance(policy.alpha, float) or not 0 < policy.alpha < 0.5:
        raise Unusable(f"{where}: alpha = {policy.alpha!r} is no error rate; write a number such as 0.05.")
    if isinstance(policy.batch, bool) or not isinstance(policy.batch, int) or policy.batch < 1:
        raise Unusable(f"{where}: batch = {policy.batch!r} is no number of items; write a whole number such as 50.")
    for key, words in POLICY_WORDS.items():
        if (value := getattr(policy, key)) not in words:
            raise Unusable(f"{where}: {key} = {value!r} is unknown; write {' or '.join(words)}.")
    return policy


def _experiment(table: Any, root: Path, where: str) -> Experiment | None:
    """Paths are named from where the basket lies, or absolutely; what lies behind them is read when it is needed."""
    if table is None:
        return None
    known_keys(table, {f.name for f in fields(Experiment)}, where)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    for key in ("domain", "general"):
        if (name := _text(table, key, where)) is not None and not name.startswith("embedded:"):
            values[key] = str((root / name).resolve())
    for key in ("items", "seeds"):
        least = MIN_ITEMS if key == "items" else 1
        if not _is_number(values.get(key, least), int) or values.get(key, least) < least:
            raise Unusable(f"{where}: {key} = {values[key]!r}; write a whole number from {least} up.")
    for key in ("scales", "shares"):
        found = values.get(key, (0.5,))
        below = 1 if key == "scales" else 0.99
        if not isinstance(found, tuple) or not found or not all(_is_number(v) and 0 <= v <= below for v in found):
            raise Unusable(f"{where}: {key} = {table[key]!r}; write a list of numbers from 0 to {below}.")
    for key, most in {"kl": math.inf, "retention": 100}.items():
        if not _is_number(values.get(key, 0)) or not 0 <= values.get(key, 0) <= most:
            raise Unusable(
                f"{where}: {key} = {values[key]!r}; write a number from 0 up{f' to {most}' if most == 100 else ''}."
            )
    return Experiment(**values)


def _is_number(value: Any, kind: type = float) -> bool:
    return isinstance(value, (int, kind)) and not isinstance(value, bool)


def known_keys(table: Any, allowed: set[str], where: str) -> None:
    """`Unusable` for what is no table, or has a key that is not allowed."""
    if not isinstance(table, dict):
        raise Unusable(f"{where} must be a table of key = value lines.")
    for key in table:
        if key not in allowed:
            raise Unusable(f"{where} has an unknown key '{key}'; known are {', '.join(sorted(allowed))}.")


def _list_of_tables(rows: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unusable(f"{where}: write each benchmark as a [[benchmark]] table.")
    return rows
