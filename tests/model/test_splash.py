"""The TPU kernel, interpreted, against dense attention: values, gradients, and cut over a mesh."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.model import attention, splash
from azr_jax.model.attention import Layout
from azr_jax.model.sharding import MeshConfig, make_mesh

TIME = 128


def arrays(heads: int, kv_heads: int) -> tuple[list[Any], Layout]:
    """q, k, v of two rows, and a layout of three sequences and padding each."""
    rng = np.random.default_rng(0)
    counts = (heads, kv_heads, kv_heads)
    qkv = [jnp.asarray(rng.normal(size=(2, TIME, n, 16)), jnp.float32) for n in counts]
    segments = np.repeat([[1, 2, 3, 0], [1, 2, 3, 3]], TIME // 4, axis=1)
    zeros = np.zeros_like(segments)
    return qkv, Layout(positions=zeros, segments=segments, branches=zeros, mask="segments")


@pytest.mark.parametrize(("tensor", "kv_heads"), [(1, 2), (2, 2), (4, 2)])
def test_agrees_with_dense_attention(tensor: int, kv_heads: int) -> None:
    """With 4 devices for 2 KV heads, those are repeated."""
    qkv, layout = arrays(4, kv_heads)
    weight = jnp.asarray(layout.segments > 0, jnp.float32)[..., None, None]

    def dense(*qkv: Any) -> Any:
        out = attention.packed(*qkv, layout) * weight
        return (out**2).sum(), out

    def kernel(*qkv: Any) -> Any:
        out = splash.attention(*qkv, jnp.asarray(layout.segments)) * weight
        return (out**2).sum(), out

    grad = [jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True) for f in (dense, kernel)]
    mesh = make_mesh(MeshConfig(1, 2, tensor), jax.devices()[: 2 * tensor])
    (_, expected), expected_g = jax.jit(grad[0])(*qkv)
    with jax.set_mesh(mesh):
        (_, found), found_g = jax.jit(grad[1])(*qkv)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for one, other in zip(found_g, expected_g, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
