"""verdict.json documents for the tests of reports: made by rule, with everything that a real one holds."""

from __future__ import annotations

from typing import Any

RIGHT_TO_LEFT = "ملف التجربة"
HOSTILE = (
    '<script>alert("x")</script> #set page(width: 1pt) *bold* $x^2$ ![](https://evil.example/p.png) `rm` | a | @me'
)


def row(name: str, verdict: str, change: float, reach: float = 2.0, **more: Any) -> dict[str, Any]:
    """One benchmark's row, in points."""
    made = {
        "name": name, "metric": "prompt_level_strict_acc", "items": 200, "planned": 200, "seeds": [0, 1, 2],
        "base": 60.0, "candidate": 60.0 + change, "change": change, "low": change - reach, "high": change + reach,
        "lost": 30, "gained": 9, "flips": 39, "margin": 5.0, "floor": 0.0, "detectable": 4.1, "pvalue": 0.01,
        "verdict": verdict, "reason": f"change lies somewhere; about 583 items would probably decide {name}",
        "task": f"task_{name}", "model": "acme/med-7b", "seeds_without_effect": False, "level": 0.95,
        "adjusted_pvalue": 0.02, "digest": "ab" * 32, "groups": {}, "format": {}, "watch": False, "clustered": None,
    }  # fmt: skip
    return made | more


def document(rows: list[dict[str, Any]], decision: str, status: int, **more: Any) -> dict[str, Any]:
    """A verdict on one candidate, acme/med-7b, without mitigations."""
    regressed = [one for one in rows if one["verdict"] == "REGRESSED"]
    largest = min(regressed, key=lambda one: one["change"]) if regressed else None
    made = {
        "schema": 1, "created": "2026-11-21T14:45:33+00:00", "decision": decision, "exit": status,
        "base": {"spec": "acme/base-7b", "kind": "hub", "digest": "b0" * 32, "adapter": False},
        "candidates": [{"spec": "acme/med-7b", "kind": "adapter", "digest": "c1" * 32, "adapter": True}],
        "basket": "quick",
        "policy": {
            "alpha": 0.05, "stopping": "fixed", "estimand": "benchmark", "batch": 50, "multiplicity": "holm"
        },
        "run": {"device": "cpu", "dtype": "float32", "backend": "hf"}, "packages": {"torch": "2.13.0"},
        "code": "ee" * 32,
        "canaries": [
            {"name": "effect", "logit_change": {"c1": 11.4}}, {"name": "repeat", "items": 20, "flips": 0},
            {"name": "damaged", "verdict": "REGRESSED"},
        ],
        "benchmarks": rows, "training_runs": [], "largest_regression": largest and largest["name"],
        "largest_regression_of": largest and largest["model"], "joint_power": 0.95 ** len({r["name"] for r in rows}),
        "items": {"evaluated": 9, "planned": 9}, "domain": [gain()], "mitigations": [], "retention_floor": 80.0,
        "recommendation": "Release nothing: acme/med-7b is blocked, and no mitigation was tried.", "next_cycle": [],
        "command": "python -m pytest -m forgetting --base acme/base-7b --candidate acme/med-7b",
    }  # fmt: skip
    made["forgotten"] = forgotten(largest or min(rows, key=lambda one: one["change"]))
    return made | more


def gain(**more: Any) -> dict[str, Any]:
    made = {
        "name": "medqa", "task": "task_medqa", "model": "acme/med-7b", "metric": "acc", "items": 300, "seeds": [0],
        "base": 40.0, "candidate": 48.1, "change": 8.1, "low": 5.0, "high": 11.2, "digest": "d0" * 32,
    }  # fmt: skip
    return made | more


def forgotten(about: dict[str, Any], **more: Any) -> dict[str, Any]:
    kinds = [
        {"name": f"bullet_list_{n}", "asked": 24, "base": 61.0, "candidate": 8.0, "lost": 14 - n, "gained": 1}
        for n in range(8)
    ]
    made = {
        "benchmark": about["name"], "model": about["model"], "verdict": about["verdict"], "items": about["items"],
        "lost": about["lost"], "gained": about["gained"], "subjects": [], "kinds": {about["name"]: kinds},
        "examples": [example(n) for n in range(3)],
    }  # fmt: skip
    return made | more


def example(number: int, **more: Any) -> dict[str, Any]:
    made = {
        "item": f"t:{number}", "seed": 0, "kinds": ["bullet_list"], "question": f"How do I boil {number + 2} eggs?",
        "before": "Do this:\n\n* boil water\n* add the eggs", "after": "Boil water, add the eggs.", "base": 100.0,
        "candidate": 0.0,
    }  # fmt: skip
    return made | more


def mitigation(name: str, answer: str, rows: list[dict[str, Any]], setting: dict[str, float], **more: Any) -> dict:
    """A mitigation's row, with one setting that was tried on the other half beside the one that was judged."""
    trial = {
        "setting": setting, "digest": "f0" * 32, "items": "confirmation", "picked_on": [],
        "closure": 0.83, "closure_low": 0.5, "closure_high": 1.04,
        "retention": 0.88, "retention_low": 0.82, "retention_high": 0.93, "gain": 7.1,
        "gain_low": 5.0, "gain_high": 9.0, "worst_change": min(one["change"] for one in rows),
        "closes_gap": answer == "yes", "answer": answer, "decision": "SHIP" if answer == "yes" else "BLOCKED",
        "benchmarks": rows,
    }  # fmt: skip
    other = {key: 2 * value for key, value in setting.items()}
    tried = [{**trial, "items": "selection"}, {**trial, "items": "selection", "setting": other, "gain": 7.9}]
    made = {
        "name": name, "spec": f"mitigations/{name}", **trial, "trials": tried if setting else [],
        "seconds": {"making": 1.0, "answering": 2.0}, "note": {}, "full": None,
    }  # fmt: skip
    return made | more


def ship() -> dict[str, Any]:
    return document([row("mmlu", "PASS", -0.4, margin=3.0), row("ifeval", "PASS", 0.5)], "SHIP", 0)


def inconclusive() -> dict[str, Any]:
    rows = [row("mmlu", "PASS", -0.4, margin=3.0), row("ifeval", "INCONCLUSIVE", -3.5, 4.0, detectable=6.0)]
    return document(rows, "BLOCKED", 10)


def blocked() -> dict[str, Any]:
    """One regression, three mitigations: one closes the gap, one is unclear, one could not be tried."""
    rows = [row("mmlu", "PASS", -0.4, margin=3.0), row("ifeval", "REGRESSED", -11.1), row("gsm8k", "INCONCLUSIVE", -4)]
    merged = [row("mmlu", "PASS", -0.2, margin=3.0), row("ifeval", "PASS", -1.2), row("gsm8k", "PASS", -0.4)]
    replayed = [row("mmlu", "PASS", -0.2, margin=3.0), row("ifeval", "INCONCLUSIVE", -4.0), row("gsm8k", "PASS", 0.1)]
    tried = [
        mitigation("merge", "yes", merged, {"scale": 0.25}, full={"decision": "SHIP"}),
        mitigation("replay", "cannot tell", replayed, {"share": 0.1, "kl": 0.0}),
        {"name": "isolation", "error": "full weights cannot be isolated; give an adapter."},
    ]
    advice = ["Watch ifeval: it lost 11.1 points.", "Scale the update by 0.25 before release."]
    said = "Release the merge candidate (out/mitigations/merge) instead of acme/med-7b: it passes every benchmark."
    return document(rows, "BLOCKED", 1, mitigations=tried, next_cycle=advice, recommendation=said)


def worst_case() -> dict[str, Any]:
    """Twelve benchmarks with names of every kind, two candidates, everything long, and answers that attack."""
    models = ["/data/" + "very-long-directory-name/" * 12 + "نموذج-اللغة", "组织/" + "中文对话模型" * 20]
    names = [
        "W" * 90, "a_benchmark_with_quite_a_long_name_that_goes_on_and_on", "اختبار الفهم العام باللغة العربية",
        "מבחן ידע כללי", "中文阅读理解与常识推理综合测试集合第一版", "한국어 이해 능력 평가", "日本語読解テスト",
        HOSTILE, "\u202eevil\u202c\x00\x1b[31m", "ไทย देवनागरी",
        "z\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308algo 👩‍🔬", "plain",
    ]  # fmt: skip
    kinds = ["REGRESSED", "INCONCLUSIVE", "PASS"]
    rows = [
        row(name, kinds[n % 3], [-61.3, -4.0, -0.1][n % 3], model=model, reason=f"{HOSTILE * 9}; {HOSTILE * 9}",
            metric=f"metric_{'x' * n}_{HOSTILE}", detectable=9.0, seeds=list(range(40)), seeds_without_effect=True)
        for model in models
        for n, name in enumerate(names)
    ]  # fmt: skip
    tried = [
        mitigation(name, "no", rows[:12], {"scale": 0.123456789}, closure=-12.3456, closure_low=-99.9)
        for name in ("merge", "isolation")
    ]
    tried.append({"name": "replay", "error": HOSTILE * 20})
    long = [f"{HOSTILE * 2}\r\n\t{'中' * 400}", "W" * 3000, "نص عربي طويل " * 200]
    answers = [example(n, question=long[n], before=long[n - 1], after=long[n - 2], kinds=names) for n in range(3)]
    found = forgotten(rows[0], examples=answers)
    found["kinds"][names[0]] = [
        one | {"name": name} for one, name in zip(found["kinds"][names[0]], names, strict=False)
    ]
    domain = [gain(name=HOSTILE, model=model) for model in models]
    described = [{"spec": m, "kind": "local", "digest": "c1" * 32, "adapter": False} for m in models]
    base = described[0] | {"spec": RIGHT_TO_LEFT * 30}
    return document(
        rows, "BLOCKED", 1, mitigations=tried, next_cycle=[HOSTILE * 9] * 6, recommendation=HOSTILE * 12,
        candidates=described, domain=domain, base=base, basket=HOSTILE, forgotten=found,
        command=f"python -m pytest --candidate='{HOSTILE}' " + "--margin name=1 " * 80,
    )  # fmt: skip
