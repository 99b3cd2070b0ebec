"""The README's table: self-play on the embedded model, three seeds, with its controls.

    python benchmarks/tiny.py --out TABLE.md --json TABLE.json

Hardware: 2 CPU cores. Time: that of four runs of gin/runs/tiny.gin, the fourth with the proposer
frozen. They lie in `runs/bench`: an interrupted one is resumed, a finished one only read; remove
the folder to start anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

# A script beside this one is called like the package `sandbox`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from azr_jax import config
from azr_jax.errors import UserError
from azr_jax.evals.base import FORCED
from azr_jax.evals.harness import (
    BENCHMARKS,
    Estimate,
    EvalTask,
    accuracy,
    cells,
    evaluate,
    gain,
    load_tasks,
    pass_at_k,
)
from azr_jax.evals.heldout import MODES, Measured
from azr_jax.model.sampler import Completion, Prompt, Sampler
from azr_jax.model.sharding import make_mesh
from azr_jax.policy import EMBEDDED, load_policy
from azr_jax.report.metrics import Row, read_rows
from azr_jax.report.summary import Summary, read_summary
from azr_jax.selfplay import parse
from azr_jax.selfplay.play import SelfPlay
from azr_jax.selfplay.tasks import solve_prompt
from sandbox import Sandbox

GIN_FILE = "runs/tiny.gin"
RUNS = {f"seed{seed}": [f"RunConfig.seed = {seed}"] for seed in (0, 1, 2)}
FROZEN = ["RunConfig.seed = 0", "RunConfig.train_propose = False"]
TITLES = {"sampled": "sampled at T = 1", "greedy": "greedy", "best_temperature": "at the best T"}
EARLY, LATE = range(5, 16), 10
"""No collapse: the last so many steps are compared with these."""


@dataclass(frozen=True)
class Played:
    """A finished run."""

    before: Measured
    after: Measured
    summary: Summary
    metrics: list[Row]

    @classmethod
    def read(cls, directory: Path) -> Played:
        summary = read_summary(directory)
        assert summary is not None
        before, after = (
            Measured.from_json(json.loads((directory / "heldout" / f"{name}.json").read_text()))
            for name in ("before", "after")
        )
        return cls(before, after, summary, list(read_rows(directory / "metrics")))


@dataclass(frozen=True)
class Results:
    """All that the tables are made of. `forced`: task type -> mode -> right or wrong."""

    tasks: Sequence[EvalTask]
    seeds: Mapping[str, Played]
    frozen: Played
    forced: Mapping[str, Mapping[str, np.ndarray]]

    @property
    def first(self) -> Played:
        return next(iter(self.seeds.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--runs", type=Path, metavar="DIR", default=Path("runs/bench"))
    parser.add_argument("--gin_bindings", action="append", default=[], metavar="'NAME = VALUE'")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the tables, in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    try:
        results = collect(args.runs, args.gin_bindings)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:  # azr has said why
        sys.exit(error.returncode)
    text = markdown(results)
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    if args.json:
        args.json.write_text(json.dumps(as_json(results), indent=1) + "\n", encoding="utf-8")


# --- runs ----------------------------------------------------------------------------------------


def collect(directory: Path, bindings: Sequence[str]) -> Results:
    """Every run, run to its end; then the base that is forced to think."""
    _require_same_weights(directory)
    for name, own in {**RUNS, "frozen": FROZEN}.items():
        flags = [flag for binding in (*bindings, *own) for flag in ("--gin_bindings", binding)]
        run = ["train", "--gin_file", GIN_FILE, "--run_dir", str(directory / name), *flags]
        print(f"== azr {' '.join(run)}", flush=True)
        subprocess.run([sys.executable, "-m", "azr_jax", *run], check=True)
    config.parse([GIN_FILE], bindings)
    tasks = load_tasks(BENCHMARKS[config.build("EvalConfig").test])
    return Results(
        tasks,
        {name: Played.read(directory / name) for name in RUNS},
        Played.read(directory / "frozen"),
        _forced(directory / "forced.json", tasks),
    )


def _require_same_weights(directory: Path) -> None:
    """Runs of one table start from one base."""
    found = hashlib.sha256((EMBEDDED / "model.safetensors").read_bytes()).hexdigest()
    kept = directory / "weights.sha256"
    if kept.is_file() and kept.read_text().strip() != found:
        raise UserError(f"{directory} was made with other embedded weights: remove it")
    directory.mkdir(parents=True, exist_ok=True)
    kept.write_text(found + "\n")


def _forced(path: Path, tasks: Sequence[EvalTask]) -> dict[str, dict[str, np.ndarray]]:
    """What forcing the base to think gives without any learning; kept in `path`."""
    if not path.is_file():
        print("== the base, forced to think", flush=True)
        found = force_thinking(tasks, config.build("EvalConfig").samples)
        plain = {t: {m: r.astype(int).tolist() for m, r in row.items()} for t, row in found.items()}
        path.write_text(json.dumps(plain) + "\n")
    rows = json.loads(path.read_text())
    return {t: {m: np.array(right, bool) for m, right in row.items()} for t, row in rows.items()}


def force_thinking(tasks: Sequence[EvalTask], samples: int) -> dict[str, dict[str, np.ndarray]]:
    """The base with the first words of a trace put into its mouth; gin is parsed already."""
    run, play_config = config.build("RunConfig"), config.build("PlayConfig")
    policy = load_policy(run.init_checkpoint, make_mesh(config.build("MeshConfig")))
    encode = policy.tokenizer.encode
    chosen = {name: [t for t in tasks if t.task_type == name] for name in FORCED}
    longest = max(
        len(encode(solve_prompt(play_config.prompt_style, t.task_type, t.task) + FORCED[name]))
        for name, members in chosen.items()
        for t in members
    )
    sizes = config.build("SamplerConfig")
    sizes = replace(sizes, max_prompt_tokens=max(longest, sizes.max_prompt_tokens))
    sampler = Sampler(
        policy.model,
        sizes,
        policy.mesh,
        policy.tokenizer,
        run.seed,
        is_complete=parse.well_formed,
    )

    def sample(prompts: Sequence[Prompt], temperature: float) -> Iterator[Completion]:
        return sampler.stream(policy.params, prompts, temperature=temperature)

    with Sandbox(limits=config.build("Limits"), level=run.sandbox_level) as box:
        play = SelfPlay(play_config, config.build("RewardConfig"), box, len, run.seed)

        def right(name: str, samples: int, temperature: float) -> np.ndarray:
            return evaluate(
                chosen[name], play, sample, encode,
                samples=samples, temperature=temperature, opening=FORCED[name],
            )  # fmt: skip

        return {
            name: {"sampled": right(name, samples, 1.0), "greedy": right(name, 1, 0.0)}
            for name in chosen
        }


# --- tables --------------------------------------------------------------------------------------


def markdown(results: Results) -> str:
    """Every table, for the README."""
    types = [name for name in cells(results.tasks) if "/" not in name]
    levels = sorted(name for name in cells(results.tasks) if "/" in name)
    parts = [
        f"Held-out accuracy in %, {len(results.tasks)} tasks: before → after (gain ± its standard "
        "error, paired, over programs). The best temperature was chosen on other tasks."
    ]
    for mode, title in TITLES.items():
        parts += [f"**{title}**", _by_seed(results, types, _gains(results.tasks, mode))]
    parts += ["**Levels, sampled at T = 1**"]
    parts += [_by_seed(results, levels, _gains(results.tasks, "sampled"))]
    parts += ["**pass@8, sampled at T = 1**", _by_seed(results, types, _pass_at_8(results.tasks))]
    parts += ["**Controls: accuracy**", _controls(results, types)]
    parts += ["**Controls: self-play minus control, paired**", _against_controls(results, types)]
    parts += ["**No collapse: mean of steps 5 to 15 → of the last 10**", _collapse(results)]
    parts += ["**Bounds**", _bounds(results)]
    return "\n\n".join(parts) + "\n"


def _by_seed(
    results: Results, rows: Sequence[str], cell: Callable[[Played], Mapping[str, str]]
) -> str:
    columns = {name: cell(run) for name, run in results.seeds.items()}
    return _table(["", *columns], [[row, *(c[row] for c in columns.values())] for row in rows])


def _gains(tasks: Sequence[EvalTask], mode: str) -> Callable[[Played], Mapping[str, str]]:
    def cell(run: Played) -> dict[str, str]:
        old, new = (accuracy(m.of(mode), tasks) for m in (run.before, run.after))
        return {
            name: f"{_percent(old[name].mean)} → {_percent(new[name].mean)} ({_signed(risen)})"
            for name, risen in gain(run.before.of(mode), run.after.of(mode), tasks).items()
        }

    return cell


def _pass_at_8(tasks: Sequence[EvalTask]) -> Callable[[Played], Mapping[str, str]]:
    def cell(run: Played) -> dict[str, str]:
        shares = {
            name: [pass_at_k(m.sampled[members], 8) for m in (run.before, run.after)]
            for name, members in cells(tasks).items()
        }
        return {n: f"{_percent(old)} → {_percent(new)}" for n, (old, new) in shares.items()}

    return cell


def _controls(results: Results, types: Sequence[str]) -> str:
    """What the base gives without learning, the frozen proposer, and the first seed beside them."""
    tasks, first = results.tasks, results.first
    best = first.before.best_temperature
    rows = {
        "base, T = 1": accuracy(first.before.sampled, tasks),
        "base, greedy": accuracy(first.before.greedy, tasks),
        f"base, best T ({best:g})": accuracy(first.before.of("best_temperature"), tasks),
        "base forced to think, T = 1": _forced_accuracy(results, "sampled"),
        "base forced to think, greedy": _forced_accuracy(results, "greedy"),
        "frozen proposer, T = 1": accuracy(results.frozen.after.sampled, tasks),
        "frozen proposer, greedy": accuracy(results.frozen.after.greedy, tasks),
        "self-play (seed 0), T = 1": accuracy(first.after.sampled, tasks),
        "self-play (seed 0), greedy": accuracy(first.after.greedy, tasks),
    }
    return _table(["", *types], [[name, *_spread(row, types)] for name, row in rows.items()])


def _forced_accuracy(results: Results, mode: str) -> dict[str, Estimate]:
    return {
        name: accuracy(by_mode[mode], _of_type(results.tasks, name))[name]
        for name, by_mode in results.forced.items()
    }


def _against_controls(results: Results, types: Sequence[str]) -> str:
    """For each seed; the frozen proposer has the first one's."""
    tasks, rows = results.tasks, []
    for seed, run in results.seeds.items():
        controls = {
            "T = 1 − base at its best T": gain(
                run.before.of("best_temperature"), run.after.sampled, tasks
            ),
            "best T − base at its best T": gain(
                run.before.of("best_temperature"), run.after.of("best_temperature"), tasks
            ),
            "greedy − base greedy": gain(run.before.greedy, run.after.greedy, tasks),
            "T = 1 − base forced to think": _forced_gain(results, run, "sampled"),
            "greedy − base forced to think": _forced_gain(results, run, "greedy"),
        }
        if run is results.first:
            frozen = results.frozen.after
            controls["T = 1 − frozen proposer"] = gain(frozen.sampled, run.after.sampled, tasks)
            controls["greedy − frozen proposer"] = gain(frozen.greedy, run.after.greedy, tasks)
        rows += [
            [seed if i == 0 else "", name, *_spread(row, types, signed=True)]
            for i, (name, row) in enumerate(controls.items())
        ]
    return _table(["", "", *types], rows)


def _forced_gain(results: Results, run: Played, mode: str) -> dict[str, Estimate]:
    found = {}
    for name, by_mode in results.forced.items():
        members = cells(results.tasks)[name]
        after = run.after.of(mode)[members]
        found[name] = gain(by_mode[mode], after, _of_type(results.tasks, name))[name]
    return found


def _of_type(tasks: Sequence[EvalTask], name: str) -> list[EvalTask]:
    return [t for t in tasks if t.task_type == name]


COLLAPSE = {
    "valid proposals, %": ("valid_proposals", 100),
    "novel among the valid, %": ("novel_proposals", 100),
    "entropy, proposer, nats a token": ("entropy/propose/", 1),
    "entropy, solver, nats a token": ("entropy/solve/", 1),
    "length, proposer, tokens": ("length/propose/", 1),
    "length, solver, tokens": ("length/solve/", 1),
    "answers that think, %": ("thinks/", 100),
}
"""What is shown -> its key in the metrics, or the beginning of its keys, and the unit's factor."""


def _collapse(results: Results) -> str:
    runs = {**results.seeds, "frozen proposer": results.frozen}
    rows = []
    for title, (key, factor) in COLLAPSE.items():
        pairs = [
            (_mean_of(early, key), _mean_of(late, key)) for early, late in map(_ends, runs.values())
        ]
        rows.append([title, *(f"{factor * a:.3g} → {factor * b:.3g}" for a, b in pairs)])
    return _table(["", *runs], rows)


def _ends(run: Played) -> tuple[list[Row], list[Row]]:
    return [row for row in run.metrics if row["step"] in EARLY], run.metrics[-LATE:]


def _mean_of(rows: Sequence[Row], key: str) -> float:
    """Over rows, and over the keys that `key` begins where it ends in a slash."""
    means = [
        fmean(values)
        for row in rows
        if (values := [v for k, v in row.items() if v is not None and _meant(k, key)])
    ]
    return fmean(means) if means else float("nan")


def _meant(name: str, key: str) -> bool:
    return name.startswith(key) if key.endswith("/") else name == key


def bounds(run: Played, tasks: Sequence[EvalTask]) -> list[tuple[str, float, bool]]:
    """What a run must show: (claim, value, whether it holds)."""
    sampled = gain(run.before.sampled, run.after.sampled, tasks)["all"]
    greedy = gain(run.before.greedy, run.after.greedy, tasks)["all"].mean
    valid = min(row.get("valid_proposals", 0.0) for row in run.metrics)
    minutes = run.summary["seconds"] / 60
    errors = sampled.mean / max(sampled.stderr, 1e-9)
    return [
        ("sampled gain ≥ 7 points", 100 * sampled.mean, sampled.mean >= 0.07),
        ("… and > 4 paired standard errors", errors, errors > 4),
        ("greedy gain ≥ 3 points", 100 * greedy, greedy >= 0.03),
        ("valid proposals of every step ≥ 50 %", 100 * valid, valid >= 0.5),
        ("minutes ≤ 15", minutes, minutes <= 15),
    ]


def _bounds(results: Results) -> str:
    columns = [bounds(run, results.tasks) for run in results.seeds.values()]
    rows = [
        [row[0][0], *(f"{value:.1f} {'yes' if holds else '**no**'}" for _, value, holds in row)]
        for row in zip(*columns, strict=True)
    ]
    return _table(["", *results.seeds], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(row: Mapping[str, Estimate], types: Sequence[str], signed: bool = False) -> list[str]:
    show = _signed if signed else _plain
    return [show(row[name]) if name in row else "–" for name in types]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _plain(found: Estimate) -> str:
    return f"{_percent(found.mean)} ± {_percent(found.stderr)}"


def _signed(found: Estimate) -> str:
    return f"{100 * found.mean:+.1f} ± {_percent(found.stderr)}"


# --- JSON ----------------------------------------------------------------------------------------


def as_json(results: Results) -> dict[str, Any]:
    """machine, date, ratios (this script claims none), rows."""
    rows: list[dict[str, Any]] = []
    for name, run in {**results.seeds, "frozen": results.frozen}.items():
        facts = {"run": name, "steps": run.summary["steps"], "seconds": run.summary["seconds"]}
        for mode in MODES:
            old, new = (accuracy(m.of(mode), results.tasks) for m in (run.before, run.after))
            risen = gain(run.before.of(mode), run.after.of(mode), results.tasks)
            rows += [
                facts
                | {"mode": mode, "cell": cell, "before": old[cell].mean, "after": new[cell].mean}
                | {"gain": risen[cell].mean, "stderr_paired": risen[cell].stderr}
                for cell in risen
            ]
    for mode in ("sampled", "greedy"):
        rows += [
            {"run": "base forced to think", "mode": mode, "cell": name}
            | {"before": found.mean, "stderr": found.stderr}
            for name, found in _forced_accuracy(results, mode).items()
        ]
    device = results.first.summary["device"]
    return {
        "machine": f"{device}; {platform.machine()}, {os.cpu_count()} CPU cores",
        "date": datetime.now(UTC).date().isoformat(),
        "ratios": {},
        "rows": rows,
    }


if __name__ == "__main__":
    main()
