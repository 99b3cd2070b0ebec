"""Attention on GPU by cuDNN's fused kernels, which keep scores off HBM.

jax.nn.dot_product_attention knows one sequence a row, or a mask, which it reads for every head: at
half the speed, and nothing is skipped. What lies under it knows packed rows, but is not public:
where a version of jax lacks it, the mask serves.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

packed_attention: Any
try:
    from jax._src.cudnn.fused_attention_stablehlo import MaskType
    from jax._src.cudnn.fused_attention_stablehlo import dot_product_attention as packed_attention
except ImportError:
    packed_attention = None

MAX_SEGMENTS = 32
"""Runs of equal segments that a packed row may have, its padding among them; each costs time."""


def fits(time: int, dtype: Any) -> bool:
    """Whether there is a kernel for rows of `time` tokens: of 16 bits, and even."""
    return jnp.dtype(dtype).itemsize == 2 and time % 2 == 0


def causal(
    q: Float[Array, "b t h e"],
    k: Float[Array, "b t k e"],
    v: Float[Array, "b t k e"],
    mask: Bool[Array, "b 1 t t"] | None = None,
) -> Float[Array, "b t h e"]:
    """Causal attention of one sequence a row, or as far as `mask` allows."""
    out: Array = jax.nn.dot_product_attention(
        q, k, v, mask=mask, is_causal=True, implementation="cudnn"
    )
    return out


def packed(
    q: Float[Array, "b t h e"],
    k: Float[Array, "b t k e"],
    v: Float[Array, "b t k e"],
    segments: Int[Array, "b t"],
) -> Float[Array, "b t h e"]:
    """Causal attention inside runs of equal segments, of which a row has at most MAX_SEGMENTS."""
    starts, lengths = runs(segments, MAX_SEGMENTS)
    offsets = jnp.pad(starts, ((0, 0), (0, 1)), constant_values=-1)
    out: Array = packed_attention(
        q,
        k,
        v,
        q_seqlen=lengths,
        kv_seqlen=lengths,
        q_offsets=offsets,
        kv_offsets=offsets,
        scale=q.shape[-1] ** -0.5,
        mask_type=MaskType.PADDING_CAUSAL,
    )
    return out


def runs(
    segments: Int[Array, "b t"], most: int
) -> tuple[Int[Array, "b {most}"], Int[Array, "b {most}"]]:
    """Where each run of equal segments starts, and its length; -1 after the last run of a row."""
    time = segments.shape[1]
    first = jnp.ones_like(segments[:, :1], dtype=bool)
    new = jnp.concatenate([first, segments[:, 1:] != segments[:, :-1]], axis=1)
    starts = jnp.sort(jnp.where(new, jnp.arange(time), time), axis=1)
    starts = jnp.pad(starts, ((0, 0), (0, most)), constant_values=time)[:, : most + 1]
    lengths = jnp.diff(starts, axis=1)
    used = starts[:, :-1] < time
    return (
        jnp.where(used, starts[:, :-1], -1).astype(jnp.int32),
        jnp.where(used, lengths, -1).astype(jnp.int32),
    )
