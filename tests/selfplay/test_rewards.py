"""The formulas, against worked examples and an independent calculation."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.selfplay.rewards import (
    RewardConfig,
    learnability,
    proposer_reward,
    score,
    solve_rate,
    solver_reward,
)

PAPER, CODE = RewardConfig(zero_extreme=0.0), RewardConfig(zero_extreme=-0.5)


@pytest.mark.parametrize(
    ("right", "paper", "code"),
    [
        (0, 0.0, -0.5),
        (1, 0.875, 0.875),
        (2, 0.75, 0.75),
        (4, 0.5, 0.5),
        (7, 0.125, 0.125),
        (8, 0.0, -0.5),
    ],
)
def test_proposer_reward_of_k_right_answers_in_eight(right: int, paper: float, code: float) -> None:
    rate = solve_rate([1.0] * right + [0.0] * (8 - right))
    assert proposer_reward(True, True, rate, PAPER) == paper
    assert proposer_reward(True, True, rate, CODE) == code


@pytest.mark.parametrize(("valid", "well_formed"), [(False, True), (True, False), (False, False)])
def test_an_invalid_or_malformed_proposal_earns_the_penalty(valid: bool, well_formed: bool) -> None:
    assert proposer_reward(valid, well_formed, 0.5, PAPER) == -1.0
    assert proposer_reward(valid, well_formed, 0.5, CODE) == -1.0


def test_solver_reward() -> None:
    assert solver_reward(True, 1.0) == 1.0
    assert solver_reward(True, 0.4) == 0.4  # graded induction
    assert solver_reward(True, 0.0) == -0.5
    assert solver_reward(False, 1.0) == -1.0
    assert solver_reward(False, 0.0) == -1.0


def test_nobody_earns_or_pays_for_a_broken_sandbox() -> None:
    assert solver_reward(True, None) is None
    assert proposer_reward(True, True, None, CODE) is None
    assert solve_rate([None, 1.0, None, 0.0]) == 0.5
    assert solve_rate([None, None]) is None
    assert solve_rate([]) is None


def test_binary_induction_wants_every_hidden_pair() -> None:
    binary, graded = RewardConfig(induction="binary"), RewardConfig(induction="graded")
    assert [score(a, binary) for a in (0.0, 0.8, 1.0, None)] == [0.0, 0.0, 1.0, None]
    assert [score(a, graded) for a in (0.0, 0.8, 1.0, None)] == [0.0, 0.8, 1.0, None]


@given(st.lists(st.sampled_from([0, 1, None]), max_size=16))
def test_rate_and_learnability_against_exact_fractions(samples: list[int | None]) -> None:
    known = [Fraction(s) for s in samples if s is not None]
    rate = solve_rate([None if s is None else float(s) for s in samples])
    if not known:
        assert rate is None
        return
    exact = sum(known, Fraction(0)) / len(known)
    assert rate == pytest.approx(float(exact))
    wanted = Fraction(0) if exact in (0, 1) else 1 - exact
    assert learnability(rate or 0.0) == pytest.approx(float(wanted))


def test_a_configuration_nobody_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="zero_extreme"):
        RewardConfig(zero_extreme=0.5)
    with pytest.raises(ValueError, match="induction"):
        RewardConfig(induction="if_one_correct")  # type: ignore[arg-type]
