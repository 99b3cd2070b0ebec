"""Abduction: given a program and an output, find any input that gives it."""

from __future__ import annotations

from collections.abc import Sequence

from azr_jax.selfplay.deduction import make_task, read_proposal
from azr_jax.selfplay.drafts import ANY, DraftRules
from azr_jax.selfplay.parse import GRAMMARS
from azr_jax.selfplay.prompts import STYLES, StyleName
from azr_jax.selfplay.triplet import Task, Triplet
from azr_jax.selfplay.verdict import Check, Verdict, check_pairs
from sandbox import Job, literals

# A proposal is a program with an input, as for deduction; only what the solver sees differs.
__all__ = ["check_answer", "make_task", "propose_prompt", "read_proposal", "solve_prompt"]


def propose_prompt(
    style: StyleName, references: Sequence[Triplet], inputs: int, rules: DraftRules = ANY
) -> str:
    return STYLES[style].propose_abduction(references, rules)


def solve_prompt(style: StyleName, task: Task) -> str:
    assert isinstance(task, Triplet)
    return STYLES[style].solve_abduction(task.program, task.output)


def check_answer(
    style: StyleName, task: Task, answer: str, every_pair: bool = True
) -> Verdict | Check:
    """Right iff the program gives the output for it. The answer must be literal arguments.

    Code in an answer would know the wanted output and could forge it: `1) or (True`, or an
    object that equals everything.
    """
    assert isinstance(task, Triplet)
    try:
        arguments = literals.parse_call(GRAMMARS[style].value(answer, "input"))
    except literals.LiteralError:
        return Verdict(0.0, "REJECTED")
    return check_pairs(Job(code=task.program, inputs=(arguments,)), (task.output,))
