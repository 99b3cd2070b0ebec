"""The README's table from runs on disk, made up here: numbers stand where they belong."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from azr_jax.evals.harness import BENCHMARKS, EvalTask, cells, load_tasks
from azr_jax.evals.heldout import Measured

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "tiny.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_tiny", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def measured(tasks: list[EvalTask], right: int) -> Measured:
    """Every task right in the first `right` of 8 samples; greedy right from 4 on."""
    sampled = np.tile(np.arange(8) < right, (len(tasks), 1))
    return Measured(0.5, sampled, np.full((len(tasks), 1), right >= 4), sampled)


def write_run(directory: Path, tasks: list[EvalTask], before: int, after: int) -> None:
    (directory / "heldout").mkdir(parents=True)
    (directory / "metrics").mkdir()
    for name, right in (("before", before), ("after", after)):
        text = json.dumps(measured(tasks, right).to_json())
        (directory / "heldout" / f"{name}.json").write_text(text)
    rows: list[dict[str, Any]] = [
        {
            "step": step,
            "valid_proposals": 0.75,
            "novel_proposals": 0.5 if step < 16 else 0.25,
            "length/solve/deduction": 10.0,
            "length/solve/abduction": 20.0 if step % 2 else None,
        }
        for step in range(30)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "metrics" / "00000.jsonl").write_text(text)
    summary = {
        "steps": 30,
        "seconds": 600.0,
        "device": "1 x cpu",
        "valid_proposals": {"mean": 0.75},
    }
    (directory / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def results(bench: ModuleType, tmp_path: Path) -> Any:
    tasks = load_tasks(BENCHMARKS["tiny-dev"])
    for index, name in enumerate(bench.RUNS):
        write_run(tmp_path / name, tasks, 2, 4 + index)
    write_run(tmp_path / "frozen", tasks, 2, 3)
    sizes = {name: len(members) for name, members in cells(tasks).items()}
    forced = {
        name: {
            "sampled": np.tile(np.arange(8) < 3, (sizes[name], 1)),
            "greedy": np.ones((sizes[name], 1), bool),
        }
        for name in ("deduction", "abduction")
    }
    seeds = {name: bench.Played.read(tmp_path / name) for name in bench.RUNS}
    return bench.Results(tasks, seeds, bench.Played.read(tmp_path / "frozen"), forced)


def test_tables(bench: ModuleType, results: Any) -> None:
    text = bench.markdown(results)
    lines = text.splitlines()
    assert "| | seed0 | seed1 | seed2 |".replace("| |", "|  |") in lines
    gains = "25.0 → 50.0 (+25.0 ± 0.0) | 25.0 → 62.5 (+37.5 ± 0.0) | 25.0 → 75.0 (+50.0 ± 0.0)"
    assert f"| all | {gains} |" in lines
    assert f"| induction/level 3 | {gains} |" in lines
    assert "| all | 100.0 → 100.0 | 100.0 → 100.0 | 100.0 → 100.0 |" in lines  # pass@8
    forced = "| base forced to think, T = 1 | – | 37.5 ± 0.0 | 37.5 ± 0.0 | – |"
    assert forced in lines
    assert "|  | T = 1 − base forced to think | – | +12.5 ± 0.0 | +12.5 ± 0.0 | – |" in lines
    assert "|  | greedy − base forced to think | – | +0.0 ± 0.0 | +0.0 ± 0.0 | – |" in lines
    frozen = "| " + " | ".join(["", "T = 1 − frozen proposer", *["+12.5 ± 0.0"] * 4]) + " |"
    assert frozen in lines
    assert sum("− frozen proposer" in line for line in lines) == 2  # the first seed alone has it
    assert "| novel among the valid, % | 50 → 25 | 50 → 25 | 50 → 25 | 50 → 25 |" in lines
    assert "| sampled gain ≥ 7 points | 25.0 yes | 37.5 yes | 50.0 yes |" in lines
    assert all(line.count("|") == lines[i - 1].count("|") for i, line in enumerate(lines)
               if line.startswith("|") and lines[i - 1].startswith("|"))  # fmt: skip


def test_bounds_can_fail(bench: ModuleType, results: Any) -> None:
    claims = {name: holds for name, _, holds in bench.bounds(results.frozen, results.tasks)}
    assert claims["sampled gain ≥ 7 points"]
    assert not claims["greedy gain ≥ 3 points"]


def test_json(bench: ModuleType, results: Any) -> None:
    row = json.loads(json.dumps(bench.as_json(results)))
    assert set(row) == {"machine", "date", "ratios", "rows"}
    assert row["ratios"] == {}
    runs = {r["run"] for r in row["rows"]}
    assert runs == {"seed0", "seed1", "seed2", "frozen", "base forced to think"}
    (found,) = [
        r for r in row["rows"] if (r["run"], r["mode"], r["cell"]) == ("seed1", "sampled", "all")
    ]
    assert (found["before"], found["after"], found["seconds"]) == (0.25, 0.625, 600.0)


def test_other_weights_are_refused(bench: ModuleType, tmp_path: Path) -> None:
    bench._require_same_weights(tmp_path)
    bench._require_same_weights(tmp_path)
    (tmp_path / "weights.sha256").write_text("other\n")
    with pytest.raises(ValueError, match="other embedded weights"):
        bench._require_same_weights(tmp_path)
