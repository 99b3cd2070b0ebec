"""Attention: dense over packed sequences (training, prefill) and over a KV cache (decode)."""

from __future__ import annotations

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from azr_jax.model import backend, cudnn, flash_decode, splash
from azr_jax.model.sharding import heads_stay_together, per_shard

MASKED = -1e30
QUERY_CHUNK = 64

Mask = Literal["branches", "segments", "order"]


@flax.struct.dataclass
class Layout:
    """Where every token of a packed batch stands.

    A row holds several sequences one after the other (`segments`, 0 is padding). A sequence is a
    shared prefix (branch 0) followed by branches 1, 2, …: samples of the same prompt. A token sees
    the earlier tokens of its own prefix and of its own branch; `positions` count along that path.

    `mask` is what kernels need to look at beside the order: branches; segments alone, where no
    sequence has more than one branch; nothing, where a row holds one sequence, right-padded.
    """

    positions: Int[Array, "b t"]
    segments: Int[Array, "b t"]
    branches: Int[Array, "b t"]
    mask: Mask = flax.struct.field(pytree_node=False, default="branches")

    @classmethod
    def of_lengths(cls, lengths: Int[Array, "b"], time: int) -> Layout:
        """One sequence a row, right-padded to `time`."""
        index = jnp.broadcast_to(jnp.arange(time), (lengths.shape[0], time))
        valid = (index < lengths[:, None]).astype(jnp.int32)
        branches = jnp.zeros_like(valid)
        return cls(positions=index * valid, segments=valid, branches=branches, mask="order")


def repeat_kv(x: Float[Array, "b s k e"], heads: int) -> Float[Array, "b s h e"]:
    return jnp.repeat(x, heads // x.shape[2], axis=2) if x.shape[2] != heads else x


def packed(
    q: Float[Array, "b t h e"],
    k: Float[Array, "b t k e"],
    v: Float[Array, "b t k e"],
    layout: Layout,
) -> Float[Array, "b t h e"]:
    """Causal attention inside the paths of `layout`; scores and softmax in float32.

    Queries go in chunks, each against the keys up to its end only: half of the scores are never
    computed, and the live ones fit a CPU cache. Accelerators have kernels that keep them off HBM
    altogether, fast where no prefix is shared (`backend.shares_prompts`).
    """
    _, t, h, e = q.shape
    if backend.on_tpu() and layout.mask != "branches" and splash.fits(t):
        return splash.attention(q, k, v, layout.segments)
    if backend.on_gpu() and cudnn.fits(t, q.dtype):
        if layout.mask == "order":
            return cudnn.causal(q, k, v)
        if layout.mask == "segments" and cudnn.packed_attention:
            return cudnn.packed(q, k, v, layout.segments)
        return cudnn.causal(q, k, v, _visible(layout, 0, t)[:, None])
    q = (q * (e**-0.5)).transpose(0, 2, 1, 3)
    k = repeat_kv(k, h).transpose(0, 2, 3, 1)
    v = repeat_kv(v, h).transpose(0, 2, 1, 3)
    chunk = QUERY_CHUNK if backend.on_cpu() else t
    outputs = []
    for start in range(0, t, chunk):
        stop = min(start + chunk, t)
        mask = _visible(layout, start, stop)
        scores = backend.float32_einsum("bhte,bhes->bhts", q[:, :, start:stop], k[:, :, :, :stop])
        scores = jnp.where(mask[:, None], scores, MASKED)
        weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        outputs.append(weights @ v[:, :, :stop])
    return jnp.concatenate(outputs, axis=2).transpose(0, 2, 1, 3)


def _visible(layout: Layout, start: int, stop: int) -> Array:
    """bool [b, stop - start, stop]: may the query see the key?"""
    query = slice(start, stop)
    same = layout.segments[:, query, None] == layout.segments[:, None, :stop]
    path = (layout.branches[:, None, :stop] == 0) | (
        layout.branches[:, query, None] == layout.branches[:, None, :stop]
    )
    causal = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)[None, :]
    return same & path & causal


def cached(
    q: Float[Array, "b h e"],
    keys: Float[Array, "b k _ _"],
    values: Float[Array, "b k s e"],
    length: Int[Array, "b"],
) -> Float[Array, "b h e"]:
    """One query a row against the first `length` entries of its cache; keys lie as in `KVCache`.

    Scores and softmax in float32, as in training: `packed`, or the kernels in its place.
    """
    b, h, e = q.shape
    _, kv, s, _ = values.shape
    if backend.on_gpu() and flash_decode.fits(s, e) and heads_stay_together(h, kv):
        axes = ("bhe", "bkse", "bkse", "b")
        return per_shard(flash_decode.attention, q, keys, values, length, axes=axes, out_axes="bhe")
    grouped = (q * (e**-0.5)).reshape(b, kv, h // kv, e)
    scores = backend.float32_einsum(f"bkge,{backend.key_axes()}->bkgs", grouped, keys)
    mask = jnp.arange(s)[None, :] < length[:, None]
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("bkgs,bkse->bkge", weights, values).reshape(b, h, e)
