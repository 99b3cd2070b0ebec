"""Attention against a plain NumPy softmax over the keys each query may see."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.model import attention, backend
from azr_jax.model.attention import Layout

HEADS, KV_HEADS, WIDTH = 4, 2, 8


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _softmax_average(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One query [e] over [s, e]."""
    scores = keys @ query / np.sqrt(WIDTH)
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum()


@pytest.mark.parametrize("chunk", [4, 64])
def test_packed_sees_its_own_path_only(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERY_CHUNK", chunk)
    segments = np.array([[1] * 7 + [2] * 3, [1] * 9 + [0]])
    branches = np.array([[0, 0, 1, 1, 2, 2, 2, 0, 1, 2], [0] * 9 + [0]])
    time = segments.shape[1]
    q, k = _random(2, time, HEADS, WIDTH), _random(2, time, KV_HEADS, WIDTH)
    v = k[:, ::-1] + 1
    layout = Layout(jnp.zeros_like(segments), jnp.asarray(segments), jnp.asarray(branches))
    out = np.asarray(jax.jit(lambda *inputs: attention.packed(*inputs))(q, k, v, layout))
    for row in range(2):
        for t in np.flatnonzero(segments[row]):
            seen = [
                s
                for s in range(t + 1)
                if segments[row, s] == segments[row, t]
                and branches[row, s] in (0, branches[row, t])
            ]
            for h in range(HEADS):
                kv = h // (HEADS // KV_HEADS)
                wanted = _softmax_average(q[row, t, h], k[row, seen, kv], v[row, seen, kv])
                np.testing.assert_allclose(out[row, t, h], wanted, atol=1e-5)


def test_cached_ignores_what_lies_past_the_length() -> None:
    lengths = np.array([1, 5, 6])
    q = _random(3, HEADS, WIDTH)
    keys, values = _random(3, KV_HEADS, 6, WIDTH), _random(3, KV_HEADS, 6, WIDTH) + 1

    @jax.jit
    def cached(q: jax.Array, keys: jax.Array, values: jax.Array, lengths: jax.Array) -> jax.Array:
        lie = keys.transpose(["bkse".index(axis) for axis in backend.key_axes()])
        return attention.cached(q, lie, values, lengths)

    out = np.asarray(cached(q, keys, values, lengths))
    dirty_keys, dirty_values = keys.copy(), values.copy()
    dirty_keys[0, :, 1:], dirty_values[0, :, 1:] = 1e6, -1e6
    again = cached(q, dirty_keys, dirty_values, lengths)
    np.testing.assert_array_equal(out, again)
    for row, length in enumerate(lengths):
        for h in range(HEADS):
            kv = h // (HEADS // KV_HEADS)
            wanted = _softmax_average(q[row, h], keys[row, kv, :length], values[row, kv, :length])
            np.testing.assert_allclose(out[row, h], wanted, atol=1e-5)
