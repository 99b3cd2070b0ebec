from __future__ import annotations

import pytest

from azr_jax.selfplay.complexity import ProgramMetrics, edit_distance, measure, unique_fraction

BRANCHY = """
def f(a):
    for x in a:            # +1
        if x and a or x:   # +1, +1, +1

            a = x
    return [y for y in a]  # +1
"""


def test_measures_by_hand() -> None:
    assert measure("def f(a):\n    return a") == ProgramMetrics(lines=2, nodes=7, cyclomatic=1)
    branchy = measure(BRANCHY)
    assert branchy is not None
    assert (branchy.lines, branchy.cyclomatic) == (5, 6)
    assert measure("def f(") is None


def test_edit_distance_is_nought_to_itself_and_one_to_nothing_alike() -> None:
    program = "def f(a):\n    return a"
    assert edit_distance(program, [program, "def f(b):\n    return b"]) == 0.0
    other = edit_distance(program, [BRANCHY])
    assert other is not None and 0.0 < other < 1.0
    assert edit_distance(program, [program, BRANCHY]) == pytest.approx(other / 2)
    assert edit_distance(program, []) is None
    assert edit_distance("def f(", [program]) is None


def test_unique_fraction_looks_through_the_dress() -> None:
    programs = ["def f(a): return a", "def f(b):\n    return b", "def f(a): return 1"]
    assert unique_fraction(programs) == pytest.approx(2 / 3)
    assert unique_fraction([]) is None
