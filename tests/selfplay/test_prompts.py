"""Both styles: what a prompt must hold, and must not."""

from __future__ import annotations

import pytest

from azr_jax.selfplay.parse import GRAMMARS, answer_text
from azr_jax.selfplay.prompts import STYLES, StyleName, paper
from azr_jax.selfplay.triplet import InductionTask, Triplet
from sandbox.policy import PolicyConfig

TASK = Triplet("def f(a, b):\n    return a * b", "6, 7", "42")
INDUCTION = InductionTask(
    TASK.program, ("1, 2", "3, 4", "5, 6", "7, 8"), ("2", "12", "30", "56"), "multiply!"
)
BOTH: tuple[StyleName, ...] = ("compact", "paper")


@pytest.mark.parametrize("style", BOTH)
def test_every_prompt_ends_with_an_opened_think_tag(style: StyleName) -> None:
    s = STYLES[style]
    for prompt in (
        s.propose_deduction([TASK]),
        s.propose_abduction([]),
        s.propose_induction(TASK.program, 10),
        s.solve_deduction(TASK.program, TASK.input),
        s.solve_abduction(TASK.program, TASK.output),
        s.solve_induction(INDUCTION.message, INDUCTION.shown),
    ):
        assert prompt.endswith("<think>")


@pytest.mark.parametrize("style", BOTH)
def test_the_solver_does_not_see_what_it_must_find(style: StyleName) -> None:
    s = STYLES[style]
    assert "42" not in s.solve_deduction(TASK.program, TASK.input)
    assert "6, 7" not in s.solve_abduction(TASK.program, TASK.output)
    induction = s.solve_induction(INDUCTION.message, INDUCTION.shown)
    assert "a * b" not in induction
    assert not any(text in induction for pair in INDUCTION.hidden for text in pair)
    assert all(text in induction for pair in INDUCTION.shown for text in pair)


@pytest.mark.parametrize("style", BOTH)
def test_references_are_shown_whole(style: StyleName) -> None:
    others = [Triplet(f"def f(a):\n    return a + {n}", f"{n}0", f"{n}1") for n in range(5)]
    prompt = STYLES[style].propose_abduction(others)
    assert all(text in prompt for r in others for text in (r.program, r.input, r.output))


def test_the_english_names_the_rules() -> None:
    for prompt in (paper.propose_deduction([TASK]), paper.propose_abduction([TASK])):
        public = [m for m in PolicyConfig().banned_modules if not m.startswith("_")]
        assert all(module.partition(".")[0] in prompt for module in public)
        assert "<snippet_1>" in prompt
    assert "{" not in paper.solve_deduction("P", "I").replace("{'age': 4}", "")
    assert "```input_2\n" in paper.solve_induction(INDUCTION.message, INDUCTION.shown)


def test_each_proposer_is_told_what_must_be_hard() -> None:
    # In the original the two were swapped.
    assert "the output is hard to find" in paper.propose_deduction([])
    assert "an input that gives it is hard to find" in paper.propose_abduction([])


def test_the_format_examples_are_in_the_format() -> None:
    grammar = GRAMMARS["paper"]
    asked = paper.propose_deduction([]).partition("User: ")[2]
    program, arguments = grammar.proposal(asked) or ("", "")
    assert program.startswith("def f(name, info):") and arguments.startswith("'Ann', {")
    solved = paper.solve_induction("m", [("1", "1")]).partition("User: ")[2]
    assert grammar.program(solved) == "def f(a):\n    return a"
    assert answer_text(f"</think><answer>{solved}</answer>") == solved.strip()
