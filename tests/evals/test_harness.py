"""Accuracies, paired errors and pass@k against independent calculations."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.errors import UserError
from azr_jax.evals.harness import (
    BENCHMARKS,
    EvalTask,
    accuracy,
    cells,
    gain,
    load_tasks,
    pass_at_k,
)
from azr_jax.selfplay.triplet import Triplet


def task(program: str, category: str = "level 1") -> EvalTask:
    return EvalTask(program, "deduction", category, Triplet(program, "1", "2"))


PROGRAMS = [task(f"def f(x):\n return x+{k}") for k in range(40)]


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(right: list[bool], k: int) -> None:
    if k > len(right):
        with pytest.raises(ValueError, match="needs"):
            pass_at_k(np.array([right]), k)
        return
    subsets = list(combinations(right, k))
    expected = sum(map(any, subsets)) / len(subsets)
    assert pass_at_k(np.array([right]), k) == pytest.approx(expected)


def test_standard_error_of_distinct_programs_is_the_usual_one() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random((40, 8)) < 0.4, rng.random((40, 8)) < 0.6
    found = gain(before, after, PROGRAMS)["all"]
    difference = after.mean(1) - before.mean(1)
    assert found.mean == pytest.approx(difference.mean())
    assert found.stderr == pytest.approx(difference.std(ddof=1) / np.sqrt(40))


def test_tasks_of_one_program_count_as_one() -> None:
    """Four copies of everything must not halve the error."""
    rng = np.random.default_rng(1)
    right = rng.random((40, 1)) < 0.5
    once = accuracy(right, PROGRAMS)["all"]
    copies = accuracy(np.repeat(right, 4, axis=0), [t for t in PROGRAMS for _ in range(4)])["all"]
    assert copies.mean == pytest.approx(once.mean)
    assert copies.stderr == pytest.approx(once.stderr, rel=1e-6)


def test_cells_name_types_and_levels() -> None:
    tasks = [task("def f(x):\n return x"), task("def f(x):\n return x+1", "level 2")]
    assert cells(tasks) == {
        "all": [0, 1],
        "deduction": [0, 1],
        "deduction/level 1": [0],
        "deduction/level 2": [1],
    }


def test_the_shipped_benchmarks_load() -> None:
    sizes = {name: len(load_tasks(path)) for name, path in BENCHMARKS.items()}
    assert sizes == {"tiny-dev": 450, "tiny-test": 900}


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"id": "a"}', '{"id": 1, "task_type": "guess", "category": "", "task": {}}'],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=r"tasks\.jsonl:1"):
        load_tasks(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such benchmark"):
        load_tasks(tmp_path / "absent.jsonl")
