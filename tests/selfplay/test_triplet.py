from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.selfplay.triplet import (
    GROUPS,
    ZERO_INDUCTION_TASK,
    ZERO_TRIPLET,
    InductionTask,
    Triplet,
    group_of,
    program_key,
    task_from_json,
    task_key,
    task_to_json,
)


def test_the_six_groups_are_numbered_role_by_role() -> None:
    assert GROUPS.index(("propose", "deduction")) == 0
    assert GROUPS.index(("solve", "induction")) == 5
    assert [group_of(role, task_type) for role, task_type in GROUPS] == list(range(6))


@pytest.mark.parametrize(("count", "shown"), [(2, 1), (5, 2), (10, 5)])
def test_the_first_half_of_the_pairs_is_shown_rounded_down(count: int, shown: int) -> None:
    values = tuple(map(str, range(count)))
    task = InductionTask("def f(a): return a", values, values, "m")
    assert len(task.shown) == shown
    assert task.shown + task.hidden == task.pairs


@given(st.text(), st.text(), st.text(), st.lists(st.text(), min_size=2))
def test_tasks_survive_json(program: str, one: str, other: str, many: list[str]) -> None:
    for task in (
        Triplet(program, one, other),
        InductionTask(program, tuple(many), tuple(reversed(many)), one),
        ZERO_TRIPLET,
        ZERO_INDUCTION_TASK,
    ):
        assert task_from_json(task_to_json(task)) == task


SAME = [
    ("def f(a):\n    return a", "def f(number):  # comment\n\n    return (number)"),
    ("def f(a):\n    return a", 'def f(a: int) -> int:\n    """Doc."""\n    return a'),
    ("def f(a):\n    b: int = a\n    return b", "def f(x):\n    y = x\n    return y"),
    (
        "def f(a):\n    return [i + a for i in range(a)]",
        "def f(n):\n    return [k + n for k in range(n)]",
    ),
    (
        "def f(a):\n    def g(b):\n        nonlocal a\n        a += b\n    g(1)\n    return a",
        "def f(x):\n    def h(y):\n        nonlocal x\n        x += y\n    h(1)\n    return x",
    ),
    ("   not Python! ", "not Python!"),
]
DIFFERENT = [
    ("def f(a):\n    return a + 1", "def f(a):\n    return a + 2"),
    ("def f(a):\n    return 1", "def f(a):\n    return True"),
    ("def f(a):\n    return 1", "def f(a):\n    return 1.0"),
    ("def f(a, b):\n    return a - b", "def f(a, b):\n    return b - a"),
    ("def f(a):\n    return a.lower()", "def f(a):\n    return a.upper()"),
    ("def f(a):\n    return len(a)", "def f(a):\n    return sum(a)"),
    (
        "def g(a, b):\n    return a - b\ndef f(x):\n    return g(a=x, b=1)",
        "def g(b, a):\n    return b - a\ndef f(x):\n    return g(a=x, b=1)",
    ),
    ("def f(a):\n    return", "def f(a):\n    return None"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_programs_that_differ_in_dress_have_one_key(one: str, other: str) -> None:
    assert program_key(one) == program_key(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_programs_that_differ_in_sense_have_two_keys(one: str, other: str) -> None:
    assert program_key(one) != program_key(other)


@given(st.text(max_size=200))
def test_any_text_has_a_key(text: str) -> None:
    assert program_key(text) == program_key(text)


@pytest.mark.parametrize(
    "text",
    ["(" * 15_000, "-" * 15_000 + "1", "a" + ".a" * 9_000, "def f(a):\n return a" + "+1" * 9000],
)
def test_monstrous_source_has_a_key_and_crashes_nothing(text: str) -> None:
    assert len(program_key(text)) == 64


def test_the_form_behind_a_key_is_fixed() -> None:
    # Keys are compared within one run only, but a change of form should be a decision.
    assert program_key(ZERO_TRIPLET.program)[:12] == KEY_OF_IDENTITY


KEY_OF_IDENTITY = "a1509206c9e1"


def test_the_input_belongs_to_the_task_key() -> None:
    assert task_key(Triplet("def f(a): return a", "1", "1")) != task_key(
        Triplet("def f(a): return a", "2", "2")
    )
    assert task_key(Triplet("def f(a): return a", "1", "1")) == task_key(
        Triplet("def f(b):\n    return b", "1", "1")
    )
