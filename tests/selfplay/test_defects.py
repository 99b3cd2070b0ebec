"""One test per defect of the original in this room's part of the game; none of them is here.

The numbers in the names' comments are sections of the behavioural study of the original.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from azr_jax.selfplay.buffer import Buffer
from azr_jax.selfplay.play import SelfPlay
from azr_jax.selfplay.prompts import compact
from azr_jax.selfplay.rewards import RewardConfig
from azr_jax.selfplay.state import Answer, Proposal, Request
from azr_jax.selfplay.triplet import InductionTask, Task, TaskType, Triplet

Game = Callable[..., SelfPlay]


def proposed(play: SelfPlay, program: str, arguments: str) -> Proposal:
    """What the filter makes of one deduction proposal."""
    request = Request("propose", "deduction", 0, "")
    return play.filter(play.start(), [request], [compact.proposal(program, arguments)])[0]


def answered(play: SelfPlay, task_type: TaskType, task: Task, text: str) -> Answer:
    request = Request("solve", task_type, 0, "", task)
    return play.grade([request], [compact.answer(text)])[0]


def riddle(play: SelfPlay, program: str, inputs: list[str], message: str = "m") -> Proposal:
    """What the filter makes of one induction proposal."""
    request = Request("propose", "induction", 0, "", None, (Triplet(program, "1", "1"),))
    text = compact.induction_proposal(inputs, message)
    return play.filter(play.start(), [request], [text])[0]


# --- rewards (3.4) -----------------------------------------------------------------------------


@pytest.mark.parametrize("extreme", [0.0, -0.5])
def test_what_an_extreme_solve_rate_earns_is_a_choice(game: Game, extreme: float) -> None:
    play = game(RewardConfig(zero_extreme=extreme))
    proposal = proposed(play, "def f(a):\n    return a", "1")
    for rate in (0.0, 1.0):
        assert play.reward([proposal], [rate], [])[0].reward == extreme


def test_no_verdict_does_not_crash_the_mean(game: Game) -> None:
    play = game(samples_per_task=3)
    proposals = [proposed(play, "def f(a):\n    return a", "1")]
    requests = play.estimate_requests(proposals)
    accuracies = [None, 1.0, None]
    answers = [Answer(r, "", a, "OK", True) for r, a in zip(requests, accuracies, strict=True)]
    assert play.solve_rates(proposals, answers) == [1.0]
    answers = [Answer(r, "", None, "INFRA", True) for r in requests]
    assert play.solve_rates(proposals, answers) == [None]


def test_an_invalid_proposal_never_looks_like_a_solved_one(game: Game) -> None:
    play = game()
    proposal = proposed(play, "def f(a):\n    return a.nothing", "1")
    assert play.reward([proposal], [None], [])[0].reward == -1.0


# --- validity (2.2) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(a):\n    raise Exception('no such word in the report')", "RAISED"),
        ("class Odd(BaseException): pass\ndef f(a):\n    raise Odd", "RAISED"),
        ("def f(a):\n    raise SystemExit", "RAISED"),
        ("def f(a):\n    return float('nan')", "UNSUPPORTED"),
        ("class A: pass\ndef f(a):\n    return A()", "UNSUPPORTED"),
        ("n = []\ndef f(a):\n    n.append(a)\n    return len(n)", "NONDETERMINISTIC"),
        ("def f(a):\n    return list({'ab', 'cd', 'ef', 'gh', 'ij'})", "NONDETERMINISTIC"),
        ("def f(a):\n    return id(f)", "NONDETERMINISTIC"),
    ],
)
def test_a_program_without_a_dependable_plain_value_is_no_task(
    game: Game, program: str, status: str
) -> None:
    proposal = proposed(game(), program, "1")
    assert (proposal.status, proposal.task) == (status, None)


def test_long_outputs_are_kept_whole(game: Game) -> None:
    proposal = proposed(game(), "def f(a):\n    return 'x' * a", "1000")
    assert proposal.task == Triplet("def f(a):\n    return 'x' * a", "1000", repr("x" * 1000))


def test_none_and_the_word_error_are_values_like_others(game: Game) -> None:
    for value in ("None", "'error'", "'Traceback'"):
        task = proposed(game(), f"def f(a):\n    return {value}", "1").task
        assert isinstance(task, Triplet) and task.output == value


def test_a_function_named_like_input_is_not_input(game: Game) -> None:
    program = "def take_input(a):\n    return a\ndef f(a):\n    return take_input(a)"
    assert proposed(game(), program, "1").valid
    assert proposed(game(), "def f(a):\n    return 'input(' + a", "'x'").valid


def test_helpers_classes_and_nested_functions_are_allowed(game: Game) -> None:
    program = (
        "class A:\n    def g(self): return 1\n"
        "def h(a):\n    return A().g() + a\n"
        "def f(a):\n    def k(): return h(a)\n    return k()"
    )
    assert proposed(game(), program, "1").valid


# --- bans (2.3) --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("import os.path\ndef f(a):\n    return os.path.join('a', 'b')", "1"),
        ("from os import path\ndef f(a):\n    return path.join('a', 'b')", "1"),
        ("import os as calm\ndef f(a):\n    return 1", "1"),
        ("import sys\ndef f(a):\n    return 1", "1"),
        ("import random\ndef f(a):\n    return 1", "1"),
        ("def f(a):\n    import datetime\n    return 1", "1"),
        ("def f(a):\n    return __import__('random').choice([1])", "1"),
        ("def f(a):\n    return open('x')", "1"),
        ("def f(a):\n    return eval(a)", "'1'"),
        ("def f(a):\n    return a", "__import__('random').choice([1])"),
    ],
)
def test_bans_hold_however_they_are_spelt_and_in_inputs_too(
    game: Game, program: str, arguments: str
) -> None:
    assert proposed(game(), program, arguments).status == "REJECTED"


# --- answers (3.3) -----------------------------------------------------------------------------

ADD = Triplet("def f(a, b):\n    return [a + b]", "1, 2", "[3]")


@pytest.mark.parametrize(
    "text",
    [
        "1) or (True",
        "1, 2) == f(1, 2) or (1, 2",
        "__import__('os').getpid(), 2",
        "type('T', (), {'__eq__': lambda s, o: True, '__add__': lambda s, o: s})(), 2",
        "*[1, 2]",
        "a := 1, 2",
        "f'{1}', 2",
        "1, 2 #",
        "",
        "(" * 1000,
    ],
)
def test_an_answer_is_data_or_it_is_wrong(game: Game, text: str) -> None:
    answer = answered(game(), "abduction", ADD, text)
    assert answer.accuracy == 0.0


def test_an_answer_may_span_lines(game: Game) -> None:
    assert answered(game(), "abduction", ADD, "0,\n  3").accuracy == 1.0
    assert answered(game(), "deduction", ADD, "[\n    3,\n]").accuracy == 1.0


def test_an_abduction_answer_may_name_its_arguments(game: Game) -> None:
    assert answered(game(), "abduction", ADD, "a=1, b=2").accuracy == 1.0
    assert answered(game(), "abduction", ADD, "1, b=2").accuracy == 1.0
    for text in ("c=1, b=2", "b=2, 1", "a=1, b=f(1)", "a=1, a=2, b=2", "None=1, b=2", "[a=1], b=2"):
        assert answered(game(), "abduction", ADD, text).accuracy == 0.0


def test_an_object_that_equals_everything_satisfies_nothing(game: Game) -> None:
    task = InductionTask("def f(a): return a", ("1", "2"), ("1", "2"), "m")
    liar = (
        "class L(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        "def f(a):\n    return L(0)"
    )
    answer = answered(game(), "induction", task, liar)
    assert (answer.accuracy, answer.status) == (0.0, "UNSUPPORTED")


def test_equality_is_pythons(game: Game) -> None:
    play = game()
    five = Triplet("def f(a):\n    return 5", "1", "5")
    assert answered(play, "deduction", five, "5.0").accuracy == 1.0
    one = Triplet("def f(a):\n    return 1", "1", "1")
    assert answered(play, "deduction", one, "True").accuracy == 1.0
    pair = Triplet("def f(a):\n    return (1, 2)", "1", "(1, 2)")
    assert answered(play, "deduction", pair, "[1, 2]").accuracy == 0.0
    assert answered(play, "deduction", pair, "1, 2").accuracy == 1.0


def test_a_deduction_answer_runs_nowhere(game: Game) -> None:
    request = Request("solve", "deduction", 0, "", ADD)
    pending = game().submit_answer(request, compact.answer("f(1, 2)"))
    assert pending.outcome is None
    assert pending.result().accuracy == 0.0


def test_a_program_that_knows_the_shown_pairs_only_is_wrong(game: Game) -> None:
    inputs = ("1", "2", "3", "4")
    task = InductionTask("def f(a): return a * a", inputs, ("1", "4", "9", "16"), "m")
    listing = "def f(a):\n    return {1: 1, 2: 4}.get(a)"
    assert answered(game(), "induction", task, listing).accuracy == 0.0


# --- induction proposals (2.4) -----------------------------------------------------------------

SQUARE = "def f(a):\n    return a * a"


@pytest.mark.parametrize(
    ("inputs", "message", "reason"),
    [
        (["1", "2", "3", "1"], "m", "twice"),
        (["1", "2", "3", "1 + 0"], "m", "twice"),
        (["1", "2", "1.0", "3"], "m", "twice"),
        (["0", "1", "2", "True"], "m", "twice"),
        (["2", "3", "5", "-5"], "m", "hidden outputs are equal"),
        (["5", "-5", "2", "3"], "m", "shown outputs are equal"),
        (["0", "0.0", "0j", "False"], "m", "equal"),
        (["1", "2", "3", "4"], "", "no message"),
        (["1", "2", "3", "4"], "def f(a): return a ** 2", "message"),
        (["1", "2", "3", "4"], "It is\ndef   f(a):\n return a*a\n!", "message"),
    ],
)
def test_an_induction_task_tells_enough_and_not_too_much(
    game: Game, inputs: list[str], message: str, reason: str
) -> None:
    proposal = riddle(game(), SQUARE, inputs, message)
    assert proposal.status == "REJECTED" and reason in proposal.reason


def test_one_failing_input_fails_the_proposal(game: Game) -> None:
    assert riddle(game(), SQUARE, ["1", "2", "3", "'x'"]).status == "RAISED"
    assert riddle(game(), SQUARE, ["1", "2", "3", "4"]).valid
    assert riddle(game(), SQUARE, ["1", "2", "3"]).status == "FORMAT"


# --- buffers (1.3, 1.4, 1.5) -------------------------------------------------------------------


def test_a_full_buffer_goes_on_learning() -> None:
    buffer = Buffer(3)
    for n in range(10):
        buffer = buffer.add([Triplet(f"def f(a): return {n}", "1", str(n))], n)
    assert [e.step for e in buffer.entries] == [7, 8, 9]


def test_induction_seeds_enter_once(game: Game) -> None:
    play = game()
    state = play.start()
    seeds = [e.task for e in state.buffers["induction"].entries]
    assert state.buffers["induction"].add(seeds, 0) == state.buffers["induction"]


def test_induction_programs_are_drawn_once_each(game: Game) -> None:
    # The seeds lie in the deduction and in the abduction buffer.
    seeds = [Triplet(f"def f(a):\n    return a + {n}", "1", str(n)) for n in range(4)]
    play = game(batch_size=200)
    requests = play.propose_requests(play.start(seeds), 0)
    programs = [r.references[0].program for r in requests if r.task_type == "induction"]
    assert all(30 < programs.count(s.program) < 70 for s in seeds)  # 200/4, four deviations


def test_seeding_goes_on_with_fewer_programs_than_the_batch(game: Game) -> None:
    play = game(batch_size=64)
    requests = play.seed_requests(play.start(), ("induction",), 0)
    assert len(requests) == 64


def test_one_prompt_too_long_does_not_empty_the_batch(game: Game) -> None:
    play = game(batch_size=4, max_prompt_tokens=150, task_types=("deduction",))
    tasks = [Triplet(f"def f(a):\n    return a + {n}", "1", "1") for n in range(3)]
    long = Triplet("def f(a):\n    return '" + "x" * 400 + "'", "1", "1")
    requests = play.solve_requests(play.start([*tasks, long]), 0)
    assert len(requests) == 4
    assert {r.task for r in requests} == set(tasks)


def test_draws_follow_the_seed(game: Game) -> None:
    seeds = [Triplet(f"def f(a):\n    return a + {n}", "1", "1") for n in range(40)]
    state = game().start(seeds)
    draws = [[r.task for r in game(seed=s).solve_requests(state, 0)] for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
