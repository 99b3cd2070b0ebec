"""What is summed in float32 stays float32, though the model computes in bfloat16.

Run operation by operation: compiled for a CPU, a product that is rounded and widened again is not
rounded at all, so that a test of it would see nothing (`tests/plan` looks at what a TPU does).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.model import attention, backend
from azr_jax.model.attention import Layout
from azr_jax.model.config import ModelConfig
from azr_jax.model.transformer import Transformer

HEADS, WIDTH, TIME = 2, 16, 12
PLATFORMS = ("cpu", "gpu", "tpu")


def bfloat16(*shape: int, scale: float = 1.0) -> Any:
    random = np.random.default_rng(sum(shape)).normal(size=shape) * scale
    return jnp.asarray(random, jnp.bfloat16)


def averages(q: Any, k: Any, v: Any, last: int) -> np.ndarray:
    """[h, e]: one query a head over the entries up to `last`, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    scores = np.einsum("he,she->hs", q * WIDTH**-0.5, k[: last + 1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hs,she->he", weights / weights.sum(-1, keepdims=True), v[: last + 1])


@pytest.fixture
def sharp() -> tuple[Any, Any, Any]:
    """q, k, v [1, t, h, e] with scores near each other and far from zero, as key biases make them:
    of some hundred, where bfloat16 knows every second or fourth whole number."""
    q, k, v = (bfloat16(1, TIME, HEADS, WIDTH) + jnp.bfloat16(i) for i in (12, 12, 0))
    return q, k, v


@pytest.mark.parametrize("platform", PLATFORMS)
def test_scores_of_a_decode_step(platform: str, sharp: tuple[Any, Any, Any]) -> None:
    q, k, v = sharp
    with backend.compiling_for(platform):
        keys = k.transpose(["bske".index(axis) for axis in backend.key_axes()])
        found = attention.cached(q[:, -1], keys, v.transpose(0, 2, 1, 3), jnp.array([TIME]))
    expected = averages(q[0, -1], k[0], v[0], TIME - 1)
    np.testing.assert_allclose(np.asarray(found[0], np.float64), expected, atol=0.02)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_scores_of_a_packed_batch_without_a_kernel(
    platform: str, sharp: tuple[Any, Any, Any]
) -> None:
    q, k, v = sharp
    layout = Layout.of_lengths(jnp.array([TIME]), TIME).replace(mask="branches")  # type: ignore[attr-defined]
    with backend.compiling_for(platform):
        found = np.asarray(attention.packed(q, k, v, layout)[0], np.float64)
    for t in range(TIME):
        np.testing.assert_allclose(found[t], averages(q[0, t], k[0], v[0], t), atol=0.02)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("tied", [True, False])
def test_logits(platform: str, tied: bool) -> None:
    config = ModelConfig(
        vocab_size=40, d_model=64, layers=1, heads=1, kv_heads=1, head_dim=8, d_ff=8,
        dtype="bfloat16", tied_embeddings=tied,
    )  # fmt: skip
    table, hidden = bfloat16(40, 64), bfloat16(3, 64)
    params = {"embedding" if tied else "unembedding": table.astype(jnp.float32)}

    def unembed(params: Any, hidden: Any) -> Any:
        every = {"embedding": jnp.zeros((40, 64)), "layers": {}, "final_norm": jnp.ones(64)}
        return Transformer(config).apply({"params": every | params}, hidden, method="unembed")

    weight = np.random.default_rng(0).normal(size=(3, 40))
    with backend.compiling_for(platform):
        found = unembed(params, hidden)
        gradients = jax.grad(
            lambda *given: (unembed(*given) * jnp.asarray(weight, jnp.float32)).sum(), (0, 1)
        )(params, hidden)
    wide_table, wide_hidden = (np.asarray(x, np.float64) for x in (table, hidden))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide_hidden @ wide_table.T, atol=1e-5)
    (of_table,) = gradients[0].values()
    assert (of_table.dtype, gradients[1].dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(of_table, weight.T @ wide_hidden, atol=0.05)
    np.testing.assert_allclose(
        np.asarray(gradients[1], np.float64), weight @ wide_table, rtol=0.02, atol=0.1
    )
