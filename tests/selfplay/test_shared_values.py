"""What is stored of a proposal is what its canonical text gives (python/cpython#94718).

An input such as `[[0] * 3] * 3` holds one list three times, its text three lists. A task on which
the two differ could not be solved, not even by its own input.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.selfplay.play import Proposal, SelfPlay
from azr_jax.selfplay.prompts import compact
from azr_jax.selfplay.rewards import RewardConfig
from azr_jax.selfplay.state import PlayConfig, Request
from azr_jax.selfplay.triplet import Triplet
from sandbox import Sandbox

Game = Callable[..., SelfPlay]
PROGRAMS = [
    "def f(a):\n    a[0][0] = 1\n    return a",
    "def f(a):\n    return a[0] is a[-1]",
    "def f(a):\n    return len({id(x) for x in a})",
    "def f(a):\n    for x in a:\n        x.append(len(x))\n    return [len(x) for x in a]",
    "def f(a):\n    return [list(x) for x in a]",
    "def f(a):\n    return a == a[:] and len(a)",
    "def f(a):\n    a[0].clear()\n    return sorted(map(len, a))",
    "def f(a):\n    b = a[:]\n    b[0] = [7]\n    return a, b",
    "def f(a):\n    return [x for row in a for x in row]",
]


def proposed(play: SelfPlay, program: str, arguments: str) -> Proposal:
    request = Request("propose", "abduction", 0, "")
    return play.filter(play.start(), [request], [compact.proposal(program, arguments)])[0]


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (PROGRAMS[0], "[[0] * 3] * 3"),
        (PROGRAMS[1], "[[1]] * 2"),
        (PROGRAMS[3], "[[]] * 3"),
        ("def f(a, b):\n    a.append(1)\n    return b", "*[[[]] * 2][0]"),
        ("def f(a, b):\n    a.append(1)\n    return b", "(x := [0]), x"),
        ("def f(a):\n    a['x'].append(1)\n    return a", "dict.fromkeys('xy', [])"),
        ("def f(a):\n    return list(a)", "{x for x in (8, 0)}"),
        ("n = [0]\ndef g(x):\n    n[0] = x\n    return x\ndef f(a):\n    return n[0]", "g(5)"),
        (
            "import math\ndef g():\n    math.tau = 3\n    return 1\ndef f(a):\n    return math.tau",
            "g()",
        ),
        (
            "import copy\ndef f(a):\n    b = copy.deepcopy(a)\n    b[0][0] = 5\n    return b",
            "[[1]] * 2",
        ),
    ],
)
def test_a_task_on_which_values_and_text_differ_is_refused(
    game: Game, program: str, arguments: str
) -> None:
    proposal = proposed(game(), program, arguments)
    assert proposal.task is None
    assert proposal.status in ("NONDETERMINISTIC", "RAISED")  # RAISED: no list of arguments
    if proposal.status == "NONDETERMINISTIC":
        assert "literal text" in proposal.reason


def test_shared_values_that_make_no_difference_are_fine(game: Game) -> None:
    proposal = proposed(game(), "def f(a):\n    return sum(map(sum, a))", "[[1, 2]] * 3")
    assert proposal.task == Triplet(
        "def f(a):\n    return sum(map(sum, a))", "[[1, 2], [1, 2], [1, 2]]", "9"
    )


EXPRESSIONS = st.recursive(
    st.sampled_from(["[0]", "[]", "[1, 2]", "[3] * 2"]),
    lambda inner: (
        st.builds("[{}] * {}".format, inner, st.integers(1, 3))
        | st.builds("[{}, {}]".format, inner, inner)
        | st.builds("(lambda x: [x, x, [4]])({})".format, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=40)
@given(st.sampled_from(PROGRAMS), EXPRESSIONS)
def test_a_stored_task_passes_its_own_check(box: Sandbox, program: str, arguments: str) -> None:
    config = PlayConfig(prompt_style="compact", max_prompt_tokens=4000)
    play = SelfPlay(config, RewardConfig(), box, len, 0)
    task = proposed(play, program, arguments).task
    if task is None:
        return
    assert isinstance(task, Triplet)
    requests = [Request("solve", name, 0, "", task) for name in ("abduction", "deduction")]
    answers = play.grade(requests, [compact.answer(task.input), compact.answer(task.output)])
    assert [answer.accuracy for answer in answers] == [1.0, 1.0]
