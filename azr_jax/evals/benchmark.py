"""One benchmark, one result: what `azr eval` measures and writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from azr_jax.errors import UserError
from azr_jax.evals.harness import (
    BENCHMARKS,
    EvalTask,
    Sample,
    accuracy,
    cells,
    evaluate,
    load_tasks,
    pass_at_k,
)
from azr_jax.selfplay.play import SelfPlay


def load_benchmark(name: str, data: Path | None = None) -> list[EvalTask]:
    """The tasks of a benchmark: as shipped, or those of `data`, a file of the same format.

    Raises:
      UserError: an unknown benchmark, a missing file, a line that is no task, or no line at all.
    """
    if name not in BENCHMARKS:
        raise UserError(f"unknown benchmark {name!r}: it is one of {', '.join(BENCHMARKS)}")
    path = data or BENCHMARKS[name]
    tasks = load_tasks(path)
    if not tasks:
        raise UserError(f"{path}: no task in it")
    return tasks


def run_benchmark(
    name: str,
    tasks: Sequence[EvalTask],
    play: SelfPlay,
    sample: Sample,
    encode: Callable[[str], Sequence[int]],
    *,
    samples: int,
    temperature: float,
) -> dict[str, Any]:
    """The result as JSON: accuracies in [0, 1]; categories are task types and `type/category`.

    `stderr` is that of pass@1, over programs. Greedy samples are all alike: one is drawn.
    """
    drawn = samples if temperature else 1
    right = evaluate(tasks, play, sample, encode, samples=drawn, temperature=temperature)
    right = np.repeat(right, samples // drawn, axis=1)
    mean = accuracy(right, tasks)
    sizes = {cell: len(members) for cell, members in cells(tasks).items()}
    return {
        "benchmark": name,
        "problems": len(tasks),
        "samples_per_problem": samples,
        "temperature": temperature,
        "pass@k": {str(k): pass_at_k(right, k) for k in _powers_of_two(samples)},
        "stderr": mean["all"].stderr,
        "by_category": {
            cell: {"problems": sizes[cell], "pass@1": found.mean, "stderr": found.stderr}
            for cell, found in mean.items()
            if cell != "all"
        },
    }


def _powers_of_two(most: int) -> list[int]:
    """1, 2, 4, … up to `most`, which is the last."""
    return sorted({2**i for i in range(most.bit_length())} | {most})
