"""The grammar's own arithmetic against Python's: every value, every trace step, every inverse."""

from __future__ import annotations

import random

import pytest

from azr_jax.tiny.grammar import LEVELS, OPERATIONS, Program, draw_inputs, draw_program


def programs(level: int, count: int = 150) -> list[tuple[Program, list[int | list[int]]]]:
    rng = random.Random(level)
    drawn = ((p, draw_inputs(rng, p, 2)) for p in (draw_program(rng, level) for _ in range(count)))
    return [(program, inputs) for program, inputs in drawn if inputs is not None]


def execute(program: Program, x: int | list[int]) -> object:
    namespace: dict[str, object] = {}
    exec(program.text, namespace)
    return namespace["f"](list(x) if isinstance(x, list) else x)  # type: ignore[operator]


@pytest.mark.parametrize("level", LEVELS)
def test_values_are_what_python_computes(level: int) -> None:
    for program, inputs in programs(level):
        assert program.level == level
        for x in inputs:
            results = program.run(x)
            assert results is not None
            assert results[-1] == execute(program, x), program.text


@pytest.mark.parametrize("level", LEVELS)
def test_every_step_of_a_trace_is_true(level: int) -> None:
    for program, inputs in programs(level):
        for x in inputs:
            values: dict[str, object] = {}
            for line in program.trace(x).split("\n "):
                name, *steps = line.removeprefix("return ").split("=")
                steps = [name, *steps] if line.startswith("return ") else steps
                results = [eval(step, {}, dict(values)) for step in steps]
                assert all(r == results[-1] for r in results), (program.text, line)
                values[name] = results[-1]
            assert results[-1] == execute(program, x)


@pytest.mark.parametrize("level", LEVELS)
def test_backward_execution_finds_an_input_that_gives_the_output(level: int) -> None:
    found = 0
    for program, inputs in programs(level):
        for x in inputs:
            output = (program.run(x) or [0])[-1]
            inverted = program.invert(output)
            if inverted is not None:
                found += 1
                trace, y = inverted
                assert execute(program, y) == output, (program.text, output, y)
                assert trace.endswith(str(y))
    assert found > 100


def test_every_operation_is_drawn() -> None:
    rng = random.Random(0)
    seen = {s.operation.text for _ in range(4000) for s in draw_program(rng, 3).statements}
    assert seen == {op.text for ops in OPERATIONS.values() for op in ops}


def test_values_outside_the_range_and_failures_are_no_run() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        program = draw_program(rng, 3)
        results = program.run(19 if program.kind == "int" else [9, 9, 9, 9])
        if results is not None:
            flat = [v for r in results for v in (r if isinstance(r, list) else [r])]
            assert all(abs(v) <= 99 for v in flat)
