"""The pretraining corpus: grammar programs in the compact prompts, solved and proposed.

Answers are always right. A share of the solved examples thinks first: an execution trace, always
right too, stands between the think tags. A proposal is as hard as its references or harder, so that
self-play which starts from the zero triplet alone does not sit on trivia.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from azr_jax.selfplay.prompts import compact
from azr_jax.selfplay.split import is_held_out
from azr_jax.selfplay.triplet import ZERO_TRIPLET, Triplet
from azr_jax.tiny.grammar import LEVELS, Program, Value, draw_inputs, draw_program

INDUCTION_INPUTS = 6
QUERIES = 3
LEVEL_WEIGHTS = {"solve": (0.25, 0.35, 0.40), "induction": (0.70, 0.20, 0.10)}
TARGET_WEIGHTS = (0.15, 0.40, 0.45)
KINDS = ("deduction", "abduction", "induction", "propose", "propose induction")


@dataclass(frozen=True)
class Mix:
    """The share of each of `KINDS` among documents, and of traces among deduction and abduction."""

    kinds: tuple[float, float, float, float, float]
    think: float


@dataclass(frozen=True)
class Example:
    """One completion to learn; examples with the same prompt share its tokens."""

    prompt: str
    completion: str


def train_program(rng: random.Random, level: int, inputs: int) -> tuple[Program, list[Value]]:
    """A program of the train split with `inputs` distinct inputs that run."""
    while True:
        program = draw_program(rng, level)
        found = draw_inputs(rng, program, inputs)
        if found is not None and not is_held_out(program.text):
            return program, found


def documents(rng: random.Random, mix: Mix) -> Iterator[list[Example]]:
    """Endless documents of a mix."""
    while True:
        kind = rng.choices(KINDS, mix.kinds)[0]
        if kind == "deduction":
            yield deduction(rng, mix.think)
        elif kind == "abduction":
            yield abduction(rng, mix.think)
        elif kind == "induction":
            yield induction(rng)
        elif kind == "propose":
            yield propose(rng)
        else:
            yield propose_induction(rng)


def deduction(rng: random.Random, think: float) -> list[Example]:
    """Several inputs of one program. The shared prompt ends before the input: what inputs suit a
    program is worth learning too."""
    program, inputs = train_program(rng, _level(rng, "solve"), QUERIES)
    examples = []
    for x in inputs:
        trace = program.trace(x) if rng.random() < think else ""
        prompt = compact.solve_deduction(program.text, str(x))
        examples.append(_split_at(prompt, compact.INPUT, trace + compact.answer(_last(program, x))))
    return examples


def abduction(rng: random.Random, think: float) -> list[Example]:
    """Several outputs of one program. The input is the one that backward execution finds, where it
    finds one: one answer an output is easier to learn than any."""
    program, inputs = train_program(rng, _level(rng, "solve"), QUERIES)
    examples = []
    for x in inputs:
        output = (program.run(x) or [0])[-1]
        trace, found = program.invert(output) or ("", x)
        if rng.random() >= think:
            trace = ""
        prompt = compact.solve_abduction(program.text, str(output))
        examples.append(_split_at(prompt, compact.OUTPUT, trace + compact.answer(str(found))))
    return examples


def induction(rng: random.Random) -> list[Example]:
    """Half of the pairs are shown; the program follows."""
    program, inputs = train_program(rng, _level(rng, "induction"), INDUCTION_INPUTS // 2)
    pairs = [(str(x), _last(program, x)) for x in inputs]
    prompt = compact.solve_induction(program.message, pairs)
    return [Example(prompt, compact.answer(program.text))]


def propose(rng: random.Random) -> list[Example]:
    """New (program, input) pairs after up to two references, never easier than they are."""
    references, floor = _references(rng)
    style = rng.choice((compact.propose_deduction, compact.propose_abduction))
    prompt = style(references)
    examples = []
    for _ in range(QUERIES):
        weights = [
            w if level >= floor else 0.0 for level, w in zip(LEVELS, TARGET_WEIGHTS, strict=True)
        ]
        level = rng.choices(LEVELS, weights)[0]
        program, inputs = train_program(rng, level, 1)
        examples.append(Example(prompt, compact.proposal(program.text, str(inputs[0]))))
    return examples


def propose_induction(rng: random.Random) -> list[Example]:
    """Distinct inputs for a given program, and a message that names kinds and length only."""
    program, inputs = train_program(rng, _level(rng, "solve"), INDUCTION_INPUTS)
    prompt = compact.propose_induction(program.text, INDUCTION_INPUTS)
    completion = compact.induction_proposal([str(x) for x in inputs], program.message)
    return [Example(prompt, completion)]


def _references(rng: random.Random) -> tuple[list[Triplet], int]:
    """References as self-play shows them, the zero triplet alone first, and their top level."""
    roll = rng.random()
    if roll < 0.2:
        return [ZERO_TRIPLET], 1
    levels = [rng.choice(LEVELS) for _ in range(1 if roll < 0.3 else 2)]
    references = []
    for level in levels:
        program, inputs = train_program(rng, level, 1)
        references.append(Triplet(program.text, str(inputs[0]), _last(program, inputs[0])))
    if roll < 0.3 and rng.random() < 0.5:
        references.insert(rng.randint(0, 1), ZERO_TRIPLET)
    return references, max(levels)


def _level(rng: random.Random, kind: str) -> int:
    return rng.choices(LEVELS, LEVEL_WEIGHTS[kind])[0]


def _last(program: Program, x: Value) -> str:
    return str((program.run(x) or [0])[-1])


def _split_at(prompt: str, tag: str, completion: str) -> Example:
    """Move what follows `tag` in the prompt to the completion."""
    head, tail = prompt.rsplit(tag, 1)
    return Example(head + tag, tail + completion)
