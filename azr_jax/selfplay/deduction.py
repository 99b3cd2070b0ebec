"""Deduction: given a program and an input, find the output. No answer needs to run."""

from __future__ import annotations

from collections.abc import Sequence

from azr_jax.selfplay.drafts import ANY, Draft, DraftRules, Rejected, canonical
from azr_jax.selfplay.parse import GRAMMARS
from azr_jax.selfplay.prompts import STYLES, StyleName
from azr_jax.selfplay.triplet import Task, Triplet
from azr_jax.selfplay.verdict import Check, Verdict, same
from sandbox import Outcome, literals


def propose_prompt(
    style: StyleName, references: Sequence[Triplet], inputs: int, rules: DraftRules = ANY
) -> str:
    return STYLES[style].propose_deduction(references, rules)


def read_proposal(
    style: StyleName, answer: str, references: Sequence[Triplet], inputs: int
) -> Draft:
    parts = GRAMMARS[style].proposal(answer)
    if parts is None:
        raise Rejected("FORMAT", "no program or no input")
    program, arguments = parts
    return Draft(program, (arguments,))


def make_task(draft: Draft, outcome: Outcome) -> Triplet:
    inputs, outputs = canonical(outcome)
    return Triplet(draft.program, inputs[0], outputs[0])


def solve_prompt(style: StyleName, task: Task) -> str:
    assert isinstance(task, Triplet)
    return STYLES[style].solve_deduction(task.program, task.input)


def check_answer(
    style: StyleName, task: Task, answer: str, every_pair: bool = True
) -> Verdict | Check:
    """Right iff the answer is a literal whose value equals the output, as Python's == has it."""
    assert isinstance(task, Triplet)
    try:
        value = literals.parse_value(GRAMMARS[style].value(answer, "output"))
    except literals.LiteralError:
        return Verdict(0.0, "REJECTED")
    return Verdict(float(same(value, task.output)), "OK")
