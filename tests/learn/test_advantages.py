"""TRR++ whitening: golden numbers, invariances, and the cases that would divide by zero."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from azr_jax.learn.advantages import trr_plus_plus

rewards_of = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])
members = st.lists(st.tuples(rewards_of, st.integers(1, 50)), min_size=2, max_size=40)
whitening = st.sampled_from(["token", "sequence"])


def test_golden_token_whitening() -> None:
    """Every token listed, and `statistics` for mean and unbiased variance."""
    rewards, lengths = [1.0, 0.0, 0.0, -1.0], [3, 1, 2, 4]
    tokens = [r for r, n in zip(rewards, lengths, strict=True) for _ in range(n)]
    mean, scale = statistics.mean(tokens), math.sqrt(statistics.variance(tokens) + 1e-8)
    got, counted = trr_plus_plus(rewards, [0] * 4, lengths)
    np.testing.assert_allclose(got, [(r - mean) / scale for r in rewards], rtol=1e-12)
    # By hand: mean -0.1, variance (3 * 1.21 + 3 * 0.01 + 4 * 0.81) / 9.
    np.testing.assert_allclose(got * math.sqrt(6.9 / 9), [1.1, 0.1, 0.1, -0.9], atol=1e-7)
    assert counted.all()


def test_golden_sequence_whitening() -> None:
    got, _ = trr_plus_plus([1.0, 0.0, 0.0, -1.0], [0] * 4, [3, 1, 2, 4], whiten="sequence")
    np.testing.assert_allclose(got, [math.sqrt(1.5), 0, 0, -math.sqrt(1.5)], atol=1e-7)


def test_groups_do_not_see_each_other() -> None:
    alone, _ = trr_plus_plus([1.0, 0.0, 0.5], [4] * 3, [2, 3, 4])
    mixed, _ = trr_plus_plus(
        [9.0, 1.0, -9.0, 0.0, 3.0, 0.5], [1, 4, 1, 4, 1, 4], [7, 2, 7, 3, 7, 4]
    )
    np.testing.assert_array_equal(mixed[1::2], alone)


@pytest.mark.parametrize("whiten", ["token", "sequence"])
def test_one_member_or_constant_rewards_give_zero(whiten: str) -> None:
    got, counted = trr_plus_plus([0.3, 0.1, 0.1, 0.1], [0, 1, 1, 1], [5, 1, 2, 3], whiten=whiten)
    np.testing.assert_array_equal(got, np.zeros(4))
    assert counted.all()


def test_masked_rewards_are_excluded() -> None:
    got, counted = trr_plus_plus([1.0, None, 0.0, math.nan], [0] * 4, [2, 90, 3, 90])
    alone, _ = trr_plus_plus([1.0, 0.0], [0, 0], [2, 3])
    np.testing.assert_array_equal(counted, [True, False, True, False])
    np.testing.assert_array_equal(got, [alone[0], 0, alone[1], 0])


def test_nothing_to_whiten() -> None:
    assert [len(part) for part in trr_plus_plus([], [], [])] == [0, 0]
    got, counted = trr_plus_plus([None, None], [0, 0], [1, 1])
    assert not got.any() and not counted.any()


@pytest.mark.parametrize(
    ("rewards", "lengths", "message"),
    [([math.inf], [1], "reward 0 is infinite"), ([1.0], [0], "0 tokens"), ([1.0], [], "as many")],
)
def test_bad_input_is_named(rewards: list[float], lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trr_plus_plus(rewards, [0], lengths)


@given(members)
def test_token_weighted_mean_is_zero_and_variance_one(rows: list[tuple[float, int]]) -> None:
    rewards, lengths = zip(*rows, strict=True)
    assume(len(set(rewards)) > 1)
    got, _ = trr_plus_plus(rewards, [2] * len(rows), lengths)
    weights = np.array(lengths)
    assert abs((weights * got).sum()) < 1e-8 * weights.sum()
    assert (weights * got**2).sum() / (weights.sum() - 1) == pytest.approx(1, abs=1e-4)


@given(members, whitening, st.floats(-100, 100), st.floats(0.1, 100))
def test_shift_and_scale_of_rewards_do_not_matter(
    rows: list[tuple[float, int]], whiten: str, shift: float, scale: float
) -> None:
    rewards, lengths = map(list, zip(*rows, strict=True))
    groups = [0] * len(rows)
    base, _ = trr_plus_plus(rewards, groups, lengths, whiten=whiten)
    moved, _ = trr_plus_plus([r * scale + shift for r in rewards], groups, lengths, whiten=whiten)
    np.testing.assert_allclose(moved, base, atol=1e-3)


@given(members, whitening, st.randoms(use_true_random=False))
def test_order_does_not_matter(rows: list[tuple[float, int]], whiten: str, random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    groups = [i % 3 for i in range(len(rows))]
    rewards, lengths = zip(*rows, strict=True)
    base, _ = trr_plus_plus(rewards, groups, lengths, whiten=whiten)
    shuffled, _ = trr_plus_plus(
        *([column[i] for i in order] for column in (rewards, groups, lengths)), whiten=whiten
    )
    np.testing.assert_allclose(shuffled, base[order], atol=1e-9)
    assert np.isfinite(base).all()
