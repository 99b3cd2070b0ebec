"""The compact prompt style: one token per tag, nothing else around program and values.

The tiny embedded model is trained on these prompts and on no others. A completion continues
after the opened think tag: an optional execution trace, then `</think><answer>…</answer>`.
"""

from __future__ import annotations

from collections.abc import Sequence

from azr_jax.selfplay.drafts import DraftRules
from azr_jax.selfplay.triplet import TaskType, Triplet

THINK, END_THINK = "<think>", "</think>"
ANSWER, END_ANSWER = "<answer>", "</answer>"
PROPOSE, PROGRAM, INPUT, OUTPUT, MESSAGE = (
    "<propose>",
    "<program>",
    "<input>",
    "<output>",
    "<message>",
)
TASK_TAGS: dict[TaskType, str] = {
    "deduction": "<deduction>",
    "abduction": "<abduction>",
    "induction": "<induction>",
}
TAGS = (
    *(THINK, END_THINK, ANSWER, END_ANSWER, PROPOSE, PROGRAM, INPUT, OUTPUT, MESSAGE),
    *TASK_TAGS.values(),
)


def solve_deduction(program: str, input: str) -> str:
    return f"{TASK_TAGS['deduction']}{program}{INPUT}{input}{THINK}"


def solve_abduction(program: str, output: str) -> str:
    return f"{TASK_TAGS['abduction']}{program}{OUTPUT}{output}{THINK}"


def solve_induction(message: str, pairs: Sequence[tuple[str, str]]) -> str:
    """`pairs` are the shown (input, output) pairs only."""
    shown = "".join(f"{INPUT}{i}{OUTPUT}{o}" for i, o in pairs)
    return f"{TASK_TAGS['induction']}{message}{shown}{THINK}"


def propose_deduction(references: Sequence[Triplet], rules: DraftRules | None = None) -> str:
    """The `rules` are not spelled out: the tiny model has learnt them from its corpus."""
    return _propose("deduction", references)


def propose_abduction(references: Sequence[Triplet], rules: DraftRules | None = None) -> str:
    return _propose("abduction", references)


def propose_induction(program: str, inputs: int) -> str:
    """The number of `inputs` is not spelled out: the tiny model knows one number only."""
    return f"{PROPOSE}{TASK_TAGS['induction']}{PROGRAM}{program}{THINK}"


def answer(text: str) -> str:
    """The whole completion of a solver that does not think."""
    return f"{END_THINK}{ANSWER}{text}{END_ANSWER}"


def proposal(program: str, input: str) -> str:
    return answer(f"{program}{INPUT}{input}")


def induction_proposal(inputs: Sequence[str], message: str) -> str:
    return answer("".join(f"{INPUT}{i}" for i in inputs) + f"{MESSAGE}{message}")


def _propose(task_type: TaskType, references: Sequence[Triplet]) -> str:
    shown = "".join(f"{PROGRAM}{r.program}{INPUT}{r.input}{OUTPUT}{r.output}" for r in references)
    return f"{PROPOSE}{TASK_TAGS[task_type]}{shown}{THINK}"
