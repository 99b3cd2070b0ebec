"""Held-out accuracy of a model: sampled or greedy, by category, with paired standard errors.

A task becomes a prompt by the same function as in self-play, and its answers are checked by the
same code: what is measured is what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from azr_jax.errors import UserError
from azr_jax.model.sampler import Completion, Prompt
from azr_jax.selfplay.play import Request, SelfPlay
from azr_jax.selfplay.tasks import solve_prompt
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    Task,
    TaskType,
    Triplet,
    program_key,
    task_from_json,
)
from sandbox import jsonl

SHIPPED = Path(__file__).parent / "tiny"
BENCHMARKS = {"tiny-dev": SHIPPED / "dev.jsonl", "tiny-test": SHIPPED / "test.jsonl"}

Sample = Callable[[Sequence[Prompt], float], Iterator[Completion]]
"""(prompts, temperature) -> completions in any order; temperature 0 is greedy."""


@dataclass(frozen=True)
class EvalTask:
    """One row of a benchmark."""

    id: str
    task_type: TaskType
    category: str
    task: Task


def load_tasks(path: Path) -> list[EvalTask]:
    """A benchmark file, which may be gzipped: JSON lines of id, task_type, category, task.

    Raises:
      UserError: a missing file, or a line that is no task; names the line.
    """
    if not path.exists():
        raise UserError(f"{path}: no such benchmark file")
    try:
        return jsonl.read(path, "a task", _eval_task, text=True)
    except jsonl.JsonlError as error:
        raise UserError(str(error)) from error


def _eval_task(row: Mapping[str, Any]) -> EvalTask:
    if row["task_type"] not in TASK_TYPES:
        raise ValueError(f"unknown task type {row['task_type']!r}")
    if not isinstance(row["task"], dict) or not isinstance(row["category"], str):
        raise TypeError("task is an object, category text")
    task = task_from_json(row["task"])
    if isinstance(task, Triplet) == (row["task_type"] == "induction"):
        raise ValueError(f"the task is none of {row['task_type']}")
    texts = (
        (task.program, task.input, task.output)
        if isinstance(task, Triplet)
        else (task.program, task.message, *task.inputs, *task.outputs)
    )
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("the values of a task are text, or lists of text")
    if not isinstance(task, Triplet) and not 0 < len(task.inputs) == len(task.outputs):
        raise ValueError("as many outputs as inputs, and at least one, are needed")
    return EvalTask(row["id"], row["task_type"], row["category"], task)


def evaluate(
    tasks: Sequence[EvalTask],
    play: SelfPlay,
    sample: Sample,
    encode: Callable[[str], Sequence[int]],
    *,
    samples: int,
    temperature: float,
    opening: str = "",
) -> Bool[np.ndarray, "tasks samples"]:
    """Whether each sample of each task is right and well-formed.

    `opening` is appended to every prompt: the first words of the completion, not its own.
    Infrastructure failures are retried by the sandbox; what is left of them raises.
    """
    requests, prompts = [], []
    for index, item in enumerate(tasks):
        text = solve_prompt(play.config.prompt_style, item.task_type, item.task)
        requests.append(Request("evaluate", item.task_type, index, text, item.task))
        prompts.append(Prompt(tuple(encode(text + opening)), samples=samples, stream=(index,)))
    checks = play.checks()
    for done in sample(prompts, temperature):
        number = done.prompt * samples + done.sample
        checks.submit(number, requests[done.prompt], opening + done.text)
    right = np.zeros((len(tasks), samples), bool)
    for number, answer in checks.results().items():
        index = number // samples
        if answer.accuracy is None:
            raise RuntimeError(
                f"the sandbox failed on task {tasks[index].id}: no accuracy to report"
            )
        right[index, number % samples] = answer.well_formed and answer.accuracy == 1.0
    return right


@dataclass(frozen=True)
class Estimate:
    """A mean in [0, 1] and its standard error over programs."""

    mean: float
    stderr: float


def accuracy(
    right: Bool[np.ndarray, "tasks samples"], tasks: Sequence[EvalTask]
) -> dict[str, Estimate]:
    """Mean accuracy of "all", each task type, and each `type/category`."""
    return _by_cell(right.mean(axis=1), tasks)


def gain(
    before: Bool[np.ndarray, "tasks before"],
    after: Bool[np.ndarray, "tasks after"],
    tasks: Sequence[EvalTask],
) -> dict[str, Estimate]:
    """Mean difference on the same tasks, with its paired standard error, by the same cells."""
    return _by_cell(after.mean(axis=1) - before.mean(axis=1), tasks)


def pass_at_k(right: Bool[np.ndarray, "tasks samples"], k: int) -> float:
    """Unbiased estimate of the chance that one of k samples is right (Chen et al. 2021, eq. 1).

    Raises:
      ValueError: fewer samples than k.
    """
    tasks, n = right.shape
    if k > n:
        raise ValueError(f"pass@{k} needs {k} samples a task, there are {n}")
    wrong = n - right.sum(axis=1)
    miss = np.ones(tasks)
    for drawn in range(k):
        miss *= np.maximum(wrong - drawn, 0) / (n - drawn)
    return float(1.0 - miss.mean())


def cells(tasks: Sequence[EvalTask]) -> dict[str, list[int]]:
    """Indices of the tasks of "all", of each task type, and of each `type/category`."""
    found: dict[str, list[int]] = {"all": list(range(len(tasks)))}
    for name in TASK_TYPES:
        members = [i for i, t in enumerate(tasks) if t.task_type == name]
        if members:
            found[name] = members
    for index, item in enumerate(tasks):
        found.setdefault(f"{item.task_type}/{item.category}", []).append(index)
    return found


def _by_cell(values: Float[np.ndarray, "tasks"], tasks: Sequence[EvalTask]) -> dict[str, Estimate]:
    programs = np.array([program_key(item.task.program) for item in tasks])
    return {
        name: _clustered(values[members], programs[members])
        for name, members in cells(tasks).items()
    }


def _clustered(values: Float[np.ndarray, "n"], clusters: np.ndarray) -> Estimate:
    """Tasks of one program are not independent: residuals are summed within a program first."""
    mean = float(values.mean())
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, weights=values - mean)
    count = len(sums)
    correction = count / (count - 1) if count > 1 else 1.0
    return Estimate(mean, float(np.sqrt(correction * (sums**2).sum()) / len(values)))
