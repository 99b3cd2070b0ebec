"""Attention on TPU by the splash kernel: scores live in VMEM, block by block, and never in HBM."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as kernels
from jaxtyping import Array, Float, Int

from azr_jax.model import backend
from azr_jax.model.sharding import per_shard

BLOCKS = (512, 256, 128)
"""Rows and columns of scores that are computed at a time; the largest that divides is taken."""


def fits(time: int) -> bool:
    """Whether rows of `time` tokens cut into whole blocks."""
    return time % BLOCKS[-1] == 0


def attention(
    q: Float[Array, "b t h e"],
    k: Float[Array, "b t k e"],
    v: Float[Array, "b t k e"],
    segments: Int[Array, "b t"],
) -> Float[Array, "b t h e"]:
    """Causal attention inside segments, each device on its own rows and heads.

    Where the KV heads do not divide over the mesh as the query heads do, they are repeated.
    """
    heads, kv_heads = q.shape[2], k.shape[2]
    q = (q * (q.shape[-1] ** -0.5)).transpose(0, 2, 1, 3)
    k, v = (x.transpose(0, 2, 1, 3) for x in (k, v))
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and kv_heads % mesh.shape.get("tensor", 1):
        k, v = (jnp.repeat(x, heads // kv_heads, axis=1) for x in (k, v))
    letters = "bkte" if k.shape[1] == kv_heads else "bhte"
    out = per_shard(
        _local, q, k, v, segments, axes=("bhte", letters, letters, "bt"), out_axes="bhte"
    )
    return out.transpose(0, 2, 1, 3)


def _local(
    q: Float[Array, "b h t e"],
    k: Float[Array, "b k t e"],
    v: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
) -> Float[Array, "b h t e"]:
    kernel = _kernel(q.shape[1], q.shape[2])

    def row(q: Array, k: Array, v: Array, segments: Array) -> Any:
        return kernel(q, k, v, segment_ids=kernels.SegmentIds(q=segments, kv=segments))

    return jax.vmap(row)(q, k, v, segments)


def _kernel(heads: int, time: int) -> Any:
    block = next(size for size in BLOCKS if time % size == 0)
    mask = kernels.MultiHeadMask([kernels.CausalMask((time, time))] * heads)
    sizes = kernels.BlockSizes(*(block,) * 8)
    # Off TPU the kernel is interpreted: slow, for tests.
    return kernels.make_splash_mha(
        mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=not backend.on_tpu()
    )
