"""Attention of one query a row over a KV cache, on GPU: only what a row has written is read.

A Pallas kernel (Triton) walks the cache of one row and KV head block by block, to the row's own
length, with the softmax kept online (Flash-Decoding: long rows are cut into parts that run at once
and are merged afterwards). The dense form reads all rows to the end of the cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

from azr_jax.model import backend

BLOCK = 128
"""Cache entries read at a time."""

TILE = 16
"""Least rows of a tensor core's product: the queries that share a KV head are padded to it."""

PROGRAMS = 512
"""Parts that keep a large chip busy; with fewer rows, each is cut into more parts."""


def fits(size: int, head_dim: int) -> bool:
    """Whether a cache of `size` entries cuts into whole blocks of a head that the kernel takes."""
    return size % BLOCK == 0 and head_dim in (64, 128, 256)


def attention(
    q: Float[Array, "b h e"],
    keys: Float[Array, "b k s e"],
    values: Float[Array, "b k s e"],
    length: Int[Array, "b"],
) -> Float[Array, "b h e"]:
    """One query a row against the first `length` (at least 1) entries of its cache."""
    b, h, e = q.shape
    kv, s = keys.shape[1:3]
    shared = h // kv
    rows, tile = b * kv, max(TILE, pl.next_power_of_2(shared))
    grouped = (q * (e**-0.5)).reshape(rows, shared, e)
    grouped = jnp.pad(grouped, ((0, 0), (0, tile - shared), (0, 0)))
    parts = _parts(rows, s // BLOCK)
    context, top, total = _walk(
        grouped,
        keys.reshape(rows, s, e),
        values.reshape(rows, s, e),
        jnp.repeat(length, kv),
        parts,
    )
    # Parts beyond the length have the lowest top and nothing in total: they weigh nothing.
    weight = jnp.exp(top - top.max(axis=1, keepdims=True))
    merged = (context * weight[..., None]).sum(axis=1) / (total * weight).sum(axis=1)[..., None]
    return merged[:, :shared].reshape(b, h, e).astype(q.dtype)


def _parts(rows: int, blocks: int) -> int:
    """Into how many equal parts of whole blocks a row is cut: the fewest that fill the chip."""
    enough = [n for n in range(1, blocks + 1) if blocks % n == 0 and rows * n >= PROGRAMS]
    return enough[0] if enough else blocks


def _walk(
    q: Float[Array, "r g e"],
    keys: Float[Array, "r s e"],
    values: Float[Array, "r s e"],
    length: Int[Array, "r"],
    parts: int,
) -> tuple[Float[Array, "r p g e"], Float[Array, "r p g"], Float[Array, "r p g"]]:
    """Of every part: the sum of exp(score - top) * value, the top score, the sum of weights."""
    rows, tile, e = q.shape
    size = keys.shape[1] // parts
    cache = pl.BlockSpec((None, size, e), lambda r, p: (r, p, 0))
    entry = pl.BlockSpec((None, None, tile), lambda r, p: (r, p, 0))
    sums = jax.ShapeDtypeStruct((rows, parts, tile), jnp.float32)
    walk: Any = pl.pallas_call(
        partial(_part, size=size),
        grid=(rows, parts),
        in_specs=[
            pl.BlockSpec((None,), lambda r, p: (r,)),
            pl.BlockSpec((None, tile, e), lambda r, p: (r, 0, 0)),
            cache,
            cache,
        ],
        out_specs=[pl.BlockSpec((None, None, tile, e), lambda r, p: (r, p, 0, 0)), entry, entry],
        out_shape=[jax.ShapeDtypeStruct((rows, parts, tile, e), jnp.float32), sums, sums],
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=3),
        interpret=not backend.on_gpu(),
        name="flash_decode",
    )
    context, top, total = walk(length, q, keys, values)
    return context, top, total


def _part(
    length_ref: Any,
    q_ref: Any,
    keys_ref: Any,
    values_ref: Any,
    context_ref: Any,
    top_ref: Any,
    total_ref: Any,
    *,
    size: int,
) -> None:
    """One part of one row; `size` is its entries."""
    q = q_ref[...]
    first = pl.program_id(1) * size
    last = jnp.minimum(length_ref[...], first + size)

    def block(index: Any, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        context, top, total = carry
        at = pl.ds(index * BLOCK, BLOCK)
        scores = triton.dot(q, keys_ref[at, :].T).astype(jnp.float32)
        entries = first + index * BLOCK + jnp.arange(BLOCK)
        scores = jnp.where((entries < last)[None, :], scores, -jnp.inf)
        new_top = jnp.maximum(top, scores.max(axis=1))
        weights = jnp.exp(scores - new_top[:, None])
        shrink = jnp.exp(top - new_top)
        more = triton.dot(weights.astype(q.dtype), values_ref[at, :]).astype(jnp.float32)
        return context * shrink[:, None] + more, new_top, total * shrink + weights.sum(axis=1)

    tile, e = q.shape
    start = (
        jnp.zeros((tile, e), jnp.float32),
        jnp.full(tile, jnp.finfo(jnp.float32).min),
        jnp.zeros(tile, jnp.float32),
    )
    blocks = pl.cdiv(jnp.maximum(last - first, 0), BLOCK)
    context_ref[...], top_ref[...], total_ref[...] = jax.lax.fori_loop(0, blocks, block, start)
