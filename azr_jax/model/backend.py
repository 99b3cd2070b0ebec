"""Every choice that depends on the backend: how to multiply, how far to unroll, where keys lie.

XLA's CPU compiler fuses elementwise gradients into dot operands and then loses the fast GEMM;
a barrier around the operands keeps it (1.6x on forward + backward). Accelerators need none of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial

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
