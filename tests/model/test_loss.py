"""The losses against an independent NumPy calculation in float64."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.model.loss import (
    GroupCoefficients,
    batch_logprobs,
    mask_vocabulary,
    policy_loss,
    token_logprobs,
)

COEFFICIENTS = {
    "policy": [1.0, 0.5, 2.0, 1.0, 0.0, 1.0],
    "clip_low": [0.2, 0.1, 0.2, 0.3, 0.2, 0.2],
    "clip_high": [0.2, 0.28, 0.2, 0.4, 0.2, 0.2],
    "dual_clip": [0.0, 3.0, 0.0, 1.5, 0.0, 0.0],
    "entropy": [0.0, 0.001, 0.0, 0.1, 0.0, 0.0],
}


def coefficients(**changes: float) -> GroupCoefficients:
    rows = COEFFICIENTS | {name: [value] * 6 for name, value in changes.items()}
    return GroupCoefficients(**{name: jnp.array(row) for name, row in rows.items()})


def plain(**changes: float) -> GroupCoefficients:
    off = dict.fromkeys(("dual_clip", "entropy"), 0.0)
    base = {"policy": 1.0, "clip_low": 0.2, "clip_high": 0.2, **off}
    return coefficients(**(base | changes))


def token_loss(logp: float, old: float, a: float, entropy: float, g: int) -> float:
    """One token, straight from the formulas, in Python floats."""
    c = {name: row[g] for name, row in COEFFICIENTS.items()}
    ratio = math.exp(max(-20.0, min(20.0, logp - old)))
    pg = max(-a * ratio, -a * min(max(ratio, 1 - c["clip_low"]), 1 + c["clip_high"]))
    if c["dual_clip"] > 0 and a < 0:
        pg = min(pg, -a * c["dual_clip"])
    return c["policy"] * pg - c["entropy"] * entropy


def reference_logprobs(logits: np.ndarray, targets: np.ndarray, temperature: float) -> Any:
    z = logits.astype(np.float64) / temperature
    z -= z.max(-1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    entropy = -(np.exp(logp) * logp).sum(-1)
    return np.take_along_axis(logp, targets[..., None], -1)[..., 0], entropy


@pytest.fixture
def tokens() -> dict[str, np.ndarray]:
    """[4, 5] tokens of all six groups, ratios in and out of the clip range, some masked."""
    rng = np.random.default_rng(0)
    shape = (4, 5)
    old = -rng.uniform(0.1, 4.0, shape)
    return {
        "logp": (old + rng.normal(0, 0.6, shape)).astype(np.float32),
        "behaviour_logp": old.astype(np.float32),
        "advantage": rng.normal(0, 1, shape).astype(np.float32),
        "mask": (rng.random(shape) < 0.8).astype(np.float32),
        "group": np.arange(20).reshape(shape).astype(np.int32) % 6,
        "entropy": rng.uniform(0, 3, shape).astype(np.float32),
    }


def test_policy_loss_against_plain_python(tokens: dict[str, np.ndarray]) -> None:
    loss, _ = policy_loss(**tokens, coefficients=coefficients())
    expected = sum(
        token_loss(float(p), float(o), float(a), float(h), int(g)) * float(m)
        for p, o, a, m, g, h in zip(*(x.ravel() for x in tokens.values()), strict=True)
    )
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_metrics_per_group(tokens: dict[str, np.ndarray]) -> None:
    _, tally = policy_loss(**tokens, coefficients=coefficients())
    live = tokens["mask"] > 0
    gap = tokens["logp"].astype(np.float64) - tokens["behaviour_logp"]
    ratio = np.exp(gap)
    for g in range(6):
        own = live & (tokens["group"] == g)
        assert tally.sums["tokens"][g] == own.sum()
        assert tally.sums["entropy"][g] == pytest.approx(tokens["entropy"][own].sum(), rel=1e-5)
        assert tally.maxima["ratio_max"][g] == pytest.approx(ratio[own].max(), rel=1e-5)
        k3 = (1 / ratio[own] - 1 + gap[own]).sum()
        assert tally.sums["kl"][g] == pytest.approx(k3, rel=1e-4)
        assert tally.sums["gap"][g] == pytest.approx(abs(gap[own]).sum(), rel=1e-5)
        assert tally.maxima["gap_max"][g] == pytest.approx(abs(gap[own]).max(), rel=1e-5)
        up = (tokens["advantage"] > 0) & (ratio > 1 + COEFFICIENTS["clip_high"][g])
        down = (tokens["advantage"] < 0) & (ratio < 1 - COEFFICIENTS["clip_low"][g])
        assert tally.sums["clip_fraction"][g] == (own & (up | down)).sum()


def test_sums_add_up_over_pieces(tokens: dict[str, np.ndarray]) -> None:
    whole, tally = policy_loss(**tokens, coefficients=coefficients())
    parts = [
        policy_loss(**{k: v[rows] for k, v in tokens.items()}, coefficients=coefficients())
        for rows in (slice(0, 1), slice(1, 4))
    ]
    assert float(parts[0][0] + parts[1][0]) == pytest.approx(float(whole), rel=1e-6)
    merged = parts[0][1].merge(parts[1][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), merged, tally)


def test_masked_tokens_have_no_influence_even_when_not_finite() -> None:
    logp = jnp.array([-1.0, jnp.nan, -jnp.inf])
    old, advantage = jnp.array([-1.0, -1.0, jnp.nan]), jnp.array([0.7, jnp.nan, jnp.inf])
    mask, group = jnp.array([1.0, 0.0, 0.0]), jnp.zeros(3, jnp.int32)

    def loss(logp: jax.Array) -> jax.Array:
        return policy_loss(logp, old, advantage, mask, group, logp, plain())[0]

    value, gradient = jax.value_and_grad(loss)(logp)
    assert float(value) == pytest.approx(-0.7)
    np.testing.assert_allclose(gradient, [-0.7, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("gap", "advantage", "change", "gradient"),
    [
        (0.0, 2.0, {}, -2.0),  # on policy: plain policy gradient
        (0.5, 1.0, {}, 0.0),  # ratio over 1.2: clipped
        (-0.5, 1.0, {}, -math.exp(-0.5)),  # a bad ratio for a good action is never clipped
        (0.5, -1.0, {}, math.exp(0.5)),
        (-0.5, -1.0, {}, 0.0),
        (2.0, -1.0, {"dual_clip": 3.0}, 0.0),  # e^2 > 3: the dual clip bounds it
        (0.5, 1.0, {"clip_high": 1.0}, -math.exp(0.5)),
        (30.0, -1.0, {}, 0.0),  # beyond +-20 the log-ratio is clamped
        (0.3, 0.0, {}, 0.0),
    ],
)
def test_gradient_of_one_token(
    gap: float, advantage: float, change: dict[str, float], gradient: float
) -> None:
    def loss(logp: jax.Array) -> jax.Array:
        one, group = jnp.ones(1), jnp.zeros(1, jnp.int32)
        return policy_loss(logp, -one, advantage * one, one, group, 0 * one, plain(**change))[0]

    assert float(jax.grad(loss)(jnp.array([gap - 1.0]))[0]) == pytest.approx(gradient, abs=1e-5)


def test_k3_is_never_negative(tokens: dict[str, np.ndarray]) -> None:
    _, tally = policy_loss(**tokens, coefficients=coefficients())
    assert (np.asarray(tally.sums["kl"]) >= 0).all()


@pytest.mark.parametrize("chunk", [3, 7, 64])
def test_chunked_logprobs_and_their_gradient(chunk: int) -> None:
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(2, 9, 6)).astype(np.float32)
    table = rng.normal(size=(6, 20)).astype(np.float32)
    targets = rng.integers(0, 17, (2, 9))
    weights = rng.normal(size=(2, 2, 9)).astype(np.float32)

    def batched(hidden: Any, table: Any) -> Any:
        logp, entropy = batch_logprobs(
            hidden, targets, lambda h: h @ table, temperature=0.7, valid_ids=17, chunk=chunk
        )
        return (weights[0] * logp + weights[1] * entropy).sum(), (logp, entropy)

    def whole(hidden: Any, table: Any) -> Any:
        logp = jax.nn.log_softmax((hidden @ table)[..., :17] / 0.7)
        chosen = jnp.take_along_axis(logp, targets[..., None], -1)[..., 0]
        entropy = -(jnp.exp(logp) * logp).sum(-1)
        return (weights[0] * chosen + weights[1] * entropy).sum()

    gradient, (logp, entropy) = jax.grad(batched, argnums=(0, 1), has_aux=True)(hidden, table)
    expected = reference_logprobs((hidden @ table)[..., :17], targets, 0.7)
    np.testing.assert_allclose(logp, expected[0], atol=2e-6)
    np.testing.assert_allclose(entropy, expected[1], atol=2e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        gradient,
        jax.grad(whole, argnums=(0, 1))(hidden, table),
    )


def test_token_logprobs_pads_an_odd_chunk() -> None:
    rng = np.random.default_rng(2)
    hidden, targets = rng.normal(size=(10, 4)).astype(np.float32), rng.integers(0, 4, 10)
    logp, entropy = token_logprobs(
        hidden, targets, lambda h: h, temperature=1.0, valid_ids=4, chunk=4
    )
    expected = reference_logprobs(hidden, targets, 1.0)
    np.testing.assert_allclose(logp, expected[0], atol=1e-6)
    np.testing.assert_allclose(entropy, expected[1], atol=1e-6)


def test_padded_ids_have_no_probability() -> None:
    masked = mask_vocabulary(jnp.zeros((2, 8)), 5)
    np.testing.assert_allclose(jax.nn.softmax(masked), [[0.2] * 5 + [0.0] * 3] * 2, atol=1e-7)
    assert mask_vocabulary(jnp.zeros((2, 8)), 8).tolist() == [[0.0] * 8] * 2
