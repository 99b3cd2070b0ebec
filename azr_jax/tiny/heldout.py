"""The held-out sets of the tiny default: grammar programs that no corpus and no self-play sees.

`python -m azr_jax.tiny.heldout` writes them to `azr_jax/evals/tiny/`; a test rebuilds and compares.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import azr_jax
from azr_jax.selfplay.drafts import Rejected
from azr_jax.selfplay.induction import require_telling
from azr_jax.selfplay.split import Split, split_of
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    InductionTask,
    Task,
    TaskType,
    Triplet,
    task_to_json,
)
from azr_jax.tiny.corpus import INDUCTION_INPUTS
from azr_jax.tiny.grammar import LEVELS, Program, Value, draw_inputs, draw_program

TASKS_PER_CELL: dict[Split, int] = {"dev": 50, "test": 100}
FOLDER = Path(azr_jax.__file__).parent / "evals" / "tiny"


def rows(split: Split) -> Iterator[dict[str, object]]:
    """One row a task: id, task type, level as category, and the task. Distinct within a cell."""
    for task_type in TASK_TYPES:
        for level in LEVELS:
            rng = random.Random(f"{split}/{task_type}/{level}")
            seen: set[Task] = set()
            while len(seen) < TASKS_PER_CELL[split]:
                task = _draw(rng, split, task_type, level)
                if task is None or task in seen:
                    continue
                seen.add(task)
                yield {
                    "id": f"{task_type}-{level}-{len(seen)}",
                    "task_type": task_type,
                    "category": f"level {level}",
                    "task": task_to_json(task),
                }


def write() -> None:
    for split in TASKS_PER_CELL:
        text = "".join(json.dumps(row) + "\n" for row in rows(split))
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{split}.jsonl").write_text(text, encoding="utf-8")


def _draw(rng: random.Random, split: Split, task_type: TaskType, level: int) -> Task | None:
    program = draw_program(rng, level)
    if split_of(program.text) != split:
        return None
    inputs = draw_inputs(rng, program, INDUCTION_INPUTS if task_type == "induction" else 1)
    if inputs is None:
        return None
    outputs = tuple(_output(program, x) for x in inputs)
    if task_type != "induction":
        return Triplet(program.text, str(inputs[0]), outputs[0])
    task = InductionTask(program.text, tuple(map(str, inputs)), outputs, program.message)
    try:
        require_telling(task)
    except Rejected:
        return None
    return task


def _output(program: Program, x: Value) -> str:
    results = program.run(x)
    assert results is not None, "drawn inputs run"
    return str(results[-1])


if __name__ == "__main__":
    write()
