"""Every choice that depends on the backend: how to multiply, how far to unroll.

XLA's CPU compiler fuses elementwise gradients into dot operands and then loses the fast GEMM;
a barrier around the operands keeps it (1.6x on forward + backward). Accelerators need none of it.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def layer_unroll(layers: int, requested: int) -> int:
    """Layers of the scan to unroll: all of a shallow model on CPU, one elsewhere."""
    if requested:
        return min(requested, layers)
    return layers if on_cpu() and layers <= 16 else 1


@partial(jax.custom_vjp)
def _isolated_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


def _isolated_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ w, (x, w)


def _isolated_backward(
    saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w, g = lax.optimization_barrier((*saved, g))
    return g @ w.T, x.T @ g


_isolated_matmul.defvjp(_isolated_forward, _isolated_backward)


def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """`x[..., m] @ w[m, n] -> [..., n]` in the dtype of `x`."""
    w = w.astype(x.dtype)
    if not on_cpu():
        return jnp.einsum("...m,mn->...n", x, w)
    rows = x.reshape(-1, x.shape[-1])
    return _isolated_matmul(rows, w).reshape(*x.shape[:-1], w.shape[-1])


def materialise(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Keep the CPU compiler from recomputing shared inputs in every consumer."""
    return lax.optimization_barrier(arrays) if on_cpu() else arrays
