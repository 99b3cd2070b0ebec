"""Induction: given some of a program's inputs and outputs and a message, write the program."""

from __future__ import annotations

from collections.abc import Sequence

from azr_jax.selfplay.drafts import Draft, Rejected, canonical
from azr_jax.selfplay.parse import GRAMMARS
from azr_jax.selfplay.prompts import STYLES, StyleName
from azr_jax.selfplay.triplet import InductionTask, Task, Triplet
from azr_jax.selfplay.verdict import Check, Verdict, check_pairs, same
from sandbox import Job, Outcome


def propose_prompt(style: StyleName, references: Sequence[Triplet], inputs: int) -> str:
    """The one reference gives the program; the proposer adds inputs and a message to it."""
    return STYLES[style].propose_induction(references[0].program, inputs)


def read_proposal(
    style: StyleName, answer: str, references: Sequence[Triplet], inputs: int
) -> Draft:
    """Of more than `inputs` inputs the last ones count, as in the original."""
    parts = GRAMMARS[style].induction_proposal(answer)
    if parts is None:
        raise Rejected("FORMAT", "no inputs or no message")
    written, message = parts
    if len(written) < inputs:
        raise Rejected("FORMAT", f"{len(written)} inputs of {inputs}")
    return Draft(references[0].program, written[-inputs:], message)


def make_task(draft: Draft, outcome: Outcome) -> InductionTask:
    """Every input must run, no two may be the same, and two outputs at least must differ."""
    assert draft.message is not None
    inputs, outputs = canonical(outcome)
    if len(set(inputs)) < len(inputs):
        raise Rejected("REJECTED", "an input is given twice")
    if all(same(outputs[0], output) for output in outputs):
        raise Rejected("REJECTED", "all outputs are equal")
    return InductionTask(draft.program, inputs, outputs, draft.message)


def solve_prompt(style: StyleName, task: Task) -> str:
    assert isinstance(task, InductionTask)
    return STYLES[style].solve_induction(task.message, task.shown)


def check_answer(style: StyleName, task: Task, answer: str) -> Verdict | Check:
    """The accuracy is the share of the hidden pairs that the written program satisfies.

    It runs on hidden inputs only, without their outputs; an answer without a program is a
    format failure.
    """
    assert isinstance(task, InductionTask)
    program = GRAMMARS[style].program(answer)
    if program is None:
        return Verdict(0.0, "FORMAT")
    inputs, outputs = zip(*task.hidden, strict=True)
    return check_pairs(Job(code=program, inputs=inputs), outputs)
