"""Moves of rows inside and between KV caches.

Rows belong to groups, one for each part of the mesh's batch axes; copies stay inside a group, so
that no device ever holds the whole cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from azr_jax.model import backend
from azr_jax.model.sharding import exchange_rows
from azr_jax.model.transformer import VALUE_AXES, KVCache


def insert(
    cache: KVCache,
    chunk: KVCache,
    source: Int[Array, "g n"],
    target: Int[Array, "g n"],
) -> KVCache:
    """Copy rows of a prefilled chunk into rows of each group, but for targets past its end."""

    def copy(axes: str, into: Array, chunk: Array) -> Array:
        axis, time = axes.index("b"), axes.index("s")
        size = min(into.shape[time], chunk.shape[time])
        chunk = jax.lax.slice_in_dim(chunk, 0, size, axis=time)
        if source.shape[0] > 1:
            return exchange_rows(into, chunk, source, target, axes=axes)
        place: list[Any] = [slice(None)] * into.ndim
        place[axis], place[time] = target[0], slice(size)
        return into.at[tuple(place)].set(jnp.take(chunk, source[0], axis=axis), mode="drop")

    return _map_cache(copy, cache, chunk)


def regroup(cache: KVCache, kept: Int[Array, "g n"], *, size: int) -> KVCache:
    """The `kept` rows of each group, in a cache of `size` entries a row.

    Where as many rows are kept as there are, they keep their places.
    """

    def gather(axes: str, x: Array) -> Array:
        axis, time = axes.index("b"), axes.index("s")
        if size < x.shape[time]:
            x = jax.lax.slice_in_dim(x, 0, size, axis=time)
        if kept.size < x.shape[axis]:
            take = jax.vmap(lambda rows, kept: jnp.take(rows, kept, axis=axis), (axis, 0), axis)
            x = _merge(take(_split(x, axis, kept.shape[0]), kept), axis)
        padding = [(0, 0)] * x.ndim
        padding[time] = (0, size - x.shape[time])
        return jnp.pad(x, padding)

    return _map_cache(gather, cache)


def _map_cache(change: Callable[..., Array], *caches: KVCache) -> KVCache:
    """`change(axes, array, …)` of all keys and values; `axes` begins with `l` if stacked."""

    def every(axes: str, *parts: Any) -> Any:
        stacked = "" if isinstance(parts[0], tuple) else "l"
        return jax.tree.map(partial(change, stacked + axes), *parts)

    return KVCache(
        keys=every(backend.key_axes(), *(cache.keys for cache in caches)),
        values=every(VALUE_AXES, *(cache.values for cache in caches)),
    )


def _split(x: Array, axis: int, groups: int) -> Array:
    """[.., b, ..] to [.., g, b / g, ..]."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def _merge(x: Array, axis: int) -> Array:
    return x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])
