"""The three task types behind one interface: `TASKS[task_type]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from azr_jax.selfplay import abduction, deduction, induction
from azr_jax.selfplay.drafts import Draft, DraftRules
from azr_jax.selfplay.prompts import StyleName
from azr_jax.selfplay.triplet import Task, TaskType, Triplet
from azr_jax.selfplay.verdict import Check, Verdict
from sandbox import Outcome


class TaskRules(Protocol):
    """What makes a task type. `inputs` is the N of induction; the other types have one input.

    every_pair: whether an induction answer must satisfy the shown pairs, too.

    read_proposal and make_task raise `Rejected`. A draft becomes a task by way of
    `drafts.vet`, `drafts.job` and a run.
    """

    def propose_prompt(
        self,
        style: StyleName,
        references: Sequence[Triplet],
        inputs: int,
        rules: DraftRules = ...,
    ) -> str: ...

    def read_proposal(
        self, style: StyleName, answer: str, references: Sequence[Triplet], inputs: int
    ) -> Draft: ...

    def make_task(self, draft: Draft, outcome: Outcome) -> Task: ...

    def solve_prompt(self, style: StyleName, task: Task) -> str: ...

    def check_answer(
        self, style: StyleName, task: Task, answer: str, every_pair: bool = ...
    ) -> Verdict | Check: ...


TASKS: dict[TaskType, TaskRules] = {
    "deduction": deduction,
    "abduction": abduction,
    "induction": induction,
}


def solve_prompt(style: StyleName, task_type: TaskType, task: Task) -> str:
    """The one place where a task becomes a prompt: training, estimates and evals all call it."""
    return TASKS[task_type].solve_prompt(style, task)
