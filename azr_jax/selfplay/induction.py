"""Induction: given some of a program's inputs and outputs and a message, write the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from azr_jax.selfplay.drafts import ANY, Draft, DraftRules, Rejected, canonical
from azr_jax.selfplay.parse import GRAMMARS
from azr_jax.selfplay.prompts import STYLES, StyleName
from azr_jax.selfplay.triplet import InductionTask, Task, Triplet
from azr_jax.selfplay.verdict import Check, Verdict, check_pairs, same
from sandbox import Job, Outcome, literals


def propose_prompt(
    style: StyleName, references: Sequence[Triplet], inputs: int, rules: DraftRules = ANY
) -> str:
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
    """Every input must run, and the pairs must tell enough: see `require_telling`."""
    assert draft.message is not None
    inputs, outputs = canonical(outcome)
    task = InductionTask(draft.program, inputs, outputs, draft.message)
    require_telling(task)
    return task


def require_telling(task: InductionTask) -> None:
    """No two inputs have the same value; two outputs differ among the shown, and the hidden ones.

    A constant would else pass, although the prompt refutes it. Seed files may hold tasks of two or
    three pairs, too few for that: of these any two outputs differ.

    Raises:
      Rejected: one of them is not so.
    """
    halves = ((task.shown, "shown "), (task.hidden, "hidden "))
    for pairs, name in halves if len(task.shown) > 1 else ((task.pairs, ""),):
        if all(same(pairs[0][1], output) for _, output in pairs):
            raise Rejected("REJECTED", f"all {name}outputs are equal")
    values: list[tuple[Any, ...]] = []
    for text in task.inputs:
        try:
            value = literals.arguments_of(text)
        except literals.LiteralError as error:
            raise Rejected("TOO_LONG", f"an input cannot be compared: {error}") from error
        if value in values:
            raise Rejected("REJECTED", "an input is given twice")
        values.append(value)


def solve_prompt(style: StyleName, task: Task) -> str:
    assert isinstance(task, InductionTask)
    return STYLES[style].solve_induction(task.message, task.shown)


def check_answer(
    style: StyleName, task: Task, answer: str, every_pair: bool = True
) -> Verdict | Check:
    """The accuracy is the share of the hidden pairs that the written program satisfies.

    Where `every_pair` counts it is 0 for a program that contradicts a shown one. The program runs
    on inputs alone, without their outputs; an answer without a program is a format failure.
    """
    assert isinstance(task, InductionTask)
    program = GRAMMARS[style].program(answer)
    if program is None:
        return Verdict(0.0, "FORMAT")
    pairs = (*task.hidden, *(task.shown if every_pair else ()))
    inputs, outputs = zip(*pairs, strict=True)
    return check_pairs(Job(code=program, inputs=inputs), outputs, scored=len(task.hidden))
