"""Every choice that depends on the backend: how to multiply, how far to unroll, where keys lie.

XLA's CPU compiler fuses elementwise gradients into dot operands and then loses the fast GEMM;
a barrier around the operands keeps it (1.6x on forward + backward). Accelerators need none of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_target: ContextVar[str | None] = ContextVar("target", default=None)


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Inside, choices are those of `platform`, whose chips need not be here: to compile ahead."""
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


def _platform() -> str:
    return _target.get() or jax.default_backend()


def on_cpu() -> bool:
    return _platform() == "cpu"


def on_gpu() -> bool:
    return _platform() == "gpu"


def on_tpu() -> bool:
    return _platform() == "tpu"


def layer_unroll(layers: int, requested: int) -> int:
    """Layers of the scan to unroll: all of a shallow model on CPU, one elsewhere."""
    if requested:
        return min(requested, layers)
    return layers if on_cpu() and layers <= 16 else 1


def sampling_unrolled(layers: int, requested: int) -> bool:
    """Are layers unrolled while sampling, each with weights and a cache of its own?

    A GPU copies what a scan cuts out of a stack, weights and cache alike, at every token.
    """
    return on_gpu() or layer_unroll(layers, requested) == layers


def shares_prompts() -> bool:
    """Are prompts stored once for all their samples in the update?

    Fused attention, which accelerators have, knows no branches, or loses half its speed on them.
    """
    return on_cpu()


def key_axes() -> str:
    """Axes of the cached keys of a layer. With time innermost, CPU scores them in half the time."""
    return "bkes" if on_cpu() else "bkse"


Pair = tuple[jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _isolated_matmul(x: jax.Array, w: jax.Array, dtype: Any) -> jax.Array:
    return jnp.matmul(x, w, preferred_element_type=dtype)


def _isolated_forward(x: jax.Array, w: jax.Array, dtype: Any) -> tuple[jax.Array, Pair]:
    return jnp.matmul(x, w, preferred_element_type=dtype), (x, w)


def _isolated_backward(dtype: Any, saved: Pair, g: jax.Array) -> Pair:
    x, w, g = lax.optimization_barrier((*saved, g.astype(saved[0].dtype)))
    return g @ w.T, x.T @ g


_isolated_matmul.defvjp(_isolated_forward, _isolated_backward)


def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """`x[..., m] @ w[m, n] -> [..., n]` in the dtype of `x`."""
    if on_cpu():
        return _on_cpu(x, w, x.dtype)
    return jnp.einsum("...m,mn->...n", x, w.astype(x.dtype))


def float32_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """`x[..., m] @ w[m, n] -> [..., n]` with operands in the dtype of `x`; see `float32_einsum`."""
    if on_cpu():
        return _on_cpu(x, w, jnp.float32)
    return float32_einsum("...m,mn->...n", x, w.astype(x.dtype))


def _on_cpu(x: jax.Array, w: jax.Array, dtype: Any) -> jax.Array:
    rows = x.reshape(-1, x.shape[-1])
    out = _isolated_matmul(rows, w.astype(x.dtype), dtype)
    return out.reshape(*x.shape[:-1], w.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def float32_einsum(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """An einsum of two operands whose float32 sums are returned as they are.

    The result of a plain one has the operands' dtype: bfloat16 sums are rounded, and a later
    `astype` does not bring them back. Its gradient is the plain one's: a float32 cotangent would
    double the memory of the largest arrays, and a GPU multiplies it at a fraction of the speed.
    """
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


def _einsum_forward(spec: str, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Pair]:
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32), (x, y)


def _einsum_backward(spec: str, saved: Pair, g: jax.Array) -> Pair:
    _, pull = jax.vjp(partial(jnp.einsum, spec), *saved)
    gradients: Pair = pull(g.astype(saved[0].dtype))
    return gradients


float32_einsum.defvjp(_einsum_forward, _einsum_backward)


def materialise(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Keep the CPU compiler from recomputing shared inputs in every consumer."""
    return lax.optimization_barrier(arrays) if on_cpu() else arrays
