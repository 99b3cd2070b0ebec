"""The draw of one token: distribution, truncation, keys."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.model import sampling

VOCABULARY, VALID = 24, 20


@jax.jit
def _draw_plain(logits, keys, positions, temperature):
    return sampling.draw(logits, keys, positions, temperature, valid_ids=VALID)


def _keys(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2**32, (count, 2), dtype=np.uint32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max())
    return exp / exp.sum()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_match_softmax_over_valid_ids(temperature: float) -> None:
    rows = 40_000
    row = np.random.default_rng(0).normal(size=VOCABULARY).astype(np.float32)
    row[VALID:] = 50.0
    positions = np.arange(rows, dtype=np.int32) % 7
    tokens, logp = _draw_plain(
        np.tile(row, (rows, 1)), _keys(rows), positions, np.float32(temperature)
    )
    share = _softmax(row[:VALID] / temperature)
    counts = np.bincount(tokens, minlength=VOCABULARY)
    assert counts[VALID:].sum() == 0
    chi_square = (((counts[:VALID] - rows * share) ** 2) / (rows * share)).sum()
    assert chi_square < 43.8  # 19 degrees of freedom, p = 0.001
    np.testing.assert_allclose(logp, np.log(share)[np.asarray(tokens)], atol=1e-5)


def test_draw_depends_on_key_and_position_alone() -> None:
    logits = np.random.default_rng(0).normal(size=(64, VOCABULARY)).astype(np.float32)
    keys, positions = _keys(64), np.arange(64, dtype=np.int32)
    order = np.random.default_rng(2).permutation(64)
    tokens, _ = _draw_plain(logits, keys, positions, np.float32(1))
    shuffled, _ = _draw_plain(logits[order], keys[order], positions[order], np.float32(1))
    np.testing.assert_array_equal(np.asarray(tokens)[order], shuffled)
    other, _ = _draw_plain(logits, keys, positions + 1, np.float32(1))
    assert (np.asarray(other) != np.asarray(tokens)).any()


def test_temperature_zero_is_argmax_with_logprobs_at_one() -> None:
    logits = np.random.default_rng(0).normal(size=(64, VOCABULARY)).astype(np.float32)
    logits[0, :VALID] = 3.0
    tokens, logp = _draw_plain(logits, _keys(64), np.arange(64, dtype=np.int32), np.float32(0))
    np.testing.assert_array_equal(tokens, logits[:, :VALID].argmax(axis=1))
    wanted = [np.log(_softmax(row[:VALID]).max()) for row in logits]
    np.testing.assert_allclose(logp, wanted, atol=1e-5)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24, 1.0])
def test_inverse_cdf_never_returns_weight_zero(uniform: float) -> None:
    rng = np.random.default_rng(0)
    weights = rng.random((500, 97)).astype(np.float32) ** 20
    weights[rng.random(weights.shape) < 0.7] = 0
    weights[:, 5] = 1e-30
    tokens = sampling.inverse_cdf(jnp.asarray(weights), jnp.full(500, uniform))
    assert (weights[np.arange(500), np.asarray(tokens)] > 0).all()


def _reference_top_p(weights: np.ndarray, p: float) -> np.ndarray:
    kept = np.zeros_like(weights)
    for row, out in zip(weights, kept, strict=True):
        total = 0.0
        for index in np.argsort(-row, kind="stable"):
            out[index] = row[index]
            total += row[index]
            if total >= p * row.sum():
                break
    return kept


@pytest.mark.parametrize("p", [0.1, 0.55, 0.9])
def test_top_p_keeps_the_fewest_that_reach_p(p: float) -> None:
    weights = np.random.default_rng(3).random((50, VOCABULARY)).astype(np.float32)
    np.testing.assert_array_equal(
        sampling.keep_top_p(jnp.asarray(weights), p), _reference_top_p(weights, p)
    )


@pytest.mark.parametrize("k", [1, 5, 100])
def test_top_k_keeps_the_k_largest(k: int) -> None:
    weights = np.random.default_rng(4).random((50, VOCABULARY)).astype(np.float32)
    threshold = np.sort(weights, axis=1)[:, -min(k, VOCABULARY), None]
    np.testing.assert_array_equal(
        sampling.keep_top_k(jnp.asarray(weights), k), np.where(weights >= threshold, weights, 0)
    )


def test_truncation_narrows_the_draw_but_not_the_logprob() -> None:
    row = np.linspace(0, 3, VOCABULARY, dtype=np.float32)
    tokens, logp = sampling.draw(
        jnp.tile(row, (500, 1)),
        jnp.asarray(_keys(500)),
        jnp.zeros(500, jnp.int32),
        jnp.float32(1),
        valid_ids=VALID,
        top_k=3,
    )
    assert set(np.asarray(tokens).tolist()) == {17, 18, 19}
    np.testing.assert_allclose(logp, np.log(_softmax(row[:VALID]))[np.asarray(tokens)], atol=1e-5)
