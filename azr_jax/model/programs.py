"""The sampler's device programs: every static shape, compiled ahead.

`prepare` (weights of a phase), `prefill`, `empty` (a cache), `insert` (prompts into rows), `decode`
(a slice of steps) and `regroup` (another number of rows or cache length).

Rows belong to `groups`, one for each part of the mesh's batch axes; copies between rows stay inside
a group, so that no device ever holds the whole cache.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gin
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int, UInt32

from azr_jax.errors import UserError
from azr_jax.model import backend, sharding
from azr_jax.model.sampling import draw
from azr_jax.model.sharding import constrain
from azr_jax.model.transformer import (
    APART,
    VALUE_AXES,
    KVCache,
    Params,
    Transformer,
    parameter_axes,
    unstack,
)

logger = logging.getLogger(__name__)


@gin.configurable
@dataclass(frozen=True)
class SamplerConfig:
    """Sizes of the sampling loop, in rows and tokens.

    slots: rows decoded at once; divisible by the mesh's batch axes.
    slice_tokens: steps between two looks of the host; a slice ends early when rows can be refilled.
    max_prompt_tokens, max_new_tokens: bounds; together they are the longest cache.
    top_p, top_k: narrow the draw; 1.0 and 0 cost nothing.
    stop_strings: end a completion, which keeps them.
    prefill_rows: prompts prefilled at once, rounded up to the mesh's batch axes.
    prompt_sizes, cache_sizes, slot_sizes: how many sizes of each are compiled.
    """

    slots: int = 64
    slice_tokens: int = 16
    max_prompt_tokens: int = 128
    max_new_tokens: int = 96
    top_p: float = 1.0
    top_k: int = 0
    stop_strings: tuple[str, ...] = ("</answer>",)
    prefill_rows: int = 8
    prompt_sizes: int = 3
    cache_sizes: int = 2
    slot_sizes: int = 2

    def __post_init__(self) -> None:
        for name in (
            "slots",
            "slice_tokens",
            "max_prompt_tokens",
            "max_new_tokens",
            "prefill_rows",
            "prompt_sizes",
            "cache_sizes",
            "slot_sizes",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"SamplerConfig.{name} must be at least 1")
        if not 0 < self.top_p <= 1:
            raise UserError(f"SamplerConfig.top_p must be in (0, 1], not {self.top_p}")
        if self.top_k < 0:
            raise UserError(f"SamplerConfig.top_k must not be negative, not {self.top_k}")


class Shape(NamedTuple):
    """Static sizes of one compiled program; those that it does not have are 0."""

    program: str
    rows: int = 0
    cache: int = 0
    prompt: int = 0
    new_rows: int = 0
    new_cache: int = 0


@dataclass(frozen=True)
class Sizes:
    """The sizes that `SamplerConfig` asks for on a mesh with `groups` batch parts; ascending."""

    slots: tuple[int, ...]
    cache: tuple[int, ...]
    prompt: tuple[int, ...]
    prefill_rows: int
    insert_rows: int

    @classmethod
    def of(cls, config: SamplerConfig, groups: int) -> Sizes:
        if config.slots % groups:
            raise UserError(
                f"SamplerConfig.slots ({config.slots}) must be a multiple of {groups}, "
                "the mesh's data x fsdp"
            )
        slots = [config.slots]
        while len(slots) < config.slot_sizes and slots[-1] // 2 >= groups:
            slots.append(math.ceil(slots[-1] / 2 / groups) * groups)
        prefill_rows = math.ceil(config.prefill_rows / groups) * groups
        return cls(
            slots=tuple(sorted(set(slots))),
            cache=_lengths(config.max_prompt_tokens + config.max_new_tokens, config.cache_sizes),
            prompt=_lengths(config.max_prompt_tokens, config.prompt_sizes),
            prefill_rows=prefill_rows,
            insert_rows=min(config.slots, 4 * prefill_rows) // groups,
        )


def _lengths(longest: int, count: int) -> tuple[int, ...]:
    """`count` lengths up to `longest`: 1, 3/4, 1/2, 3/8, … of it, rounded up to whole tiles."""
    tile = 128 if longest >= 1024 else 16
    fractions = [(1 - 0.25 * (i % 2)) / 2 ** (i // 2) for i in range(count)]
    return tuple(sorted({math.ceil(longest * f / tile) * tile for f in fractions}))


def _at_least(sizes: Sequence[int], needed: int) -> int:
    return next(size for size in sizes if size >= needed)


def shapes(config: SamplerConfig, groups: int = 1) -> list[Shape]:
    """Every program of a sampler on a mesh with `groups` batch parts, for compiling ahead."""
    sizes = Sizes.of(config, groups)
    most = sizes.slots[-1]
    found = [Shape("prefill", prompt=p) for p in sizes.prompt]
    found += [Shape("empty", rows=most, cache=c) for c in sizes.cache]
    found += [
        Shape("insert", rows=most, cache=c, prompt=p) for c in sizes.cache for p in sizes.prompt
    ]
    found += [Shape("decode", rows=b, cache=c) for b in sizes.slots for c in sizes.cache]
    for b in sizes.slots:
        for small, large in zip(sizes.cache, sizes.cache[1:], strict=False):
            found.append(Shape("regroup", rows=b, cache=small, new_rows=b, new_cache=large))
            found.append(Shape("regroup", rows=b, cache=large, new_rows=b, new_cache=small))
    for small, large in zip(sizes.slots, sizes.slots[1:], strict=False):
        for c in sizes.cache:
            found.append(Shape("regroup", rows=large, cache=c, new_rows=small, new_cache=c))
    return found


class Programs:
    """Compiled programs of one sampler, by shape.

    `late_compiles` counts those that had to be compiled after `compile_all`.
    """

    def __init__(
        self,
        model: Transformer,
        config: SamplerConfig,
        mesh: Mesh,
        *,
        stop_ids: Sequence[int],
        valid_ids: int,
    ) -> None:
        self.model, self.config, self.mesh = model, config, mesh
        self.groups = sharding.batch_groups(mesh)
        self.sizes = Sizes.of(config, self.groups)
        self.late_compiles = 0
        self._stop_ids, self._valid_ids = tuple(stop_ids), valid_ids
        self._stacked = self._stacked_shapes()
        self._weights = self._weight_shapes()
        self._compiled: dict[Any, Any] = {}
        self._compiled_all = False

    @property
    def compiled(self) -> int:
        """Programs compiled so far."""
        return len(self._compiled)

    def compile_all(self, params: Params) -> None:
        """`params`: the parameters that `prepare` will get, or their shapes with shardings."""
        self._prepare_program(self._resident(params))
        for shape in shapes(self.config, self.groups):
            self.get(shape)
        self._compiled_all = True

    def lowered(self, params: Params) -> Iterator[tuple[str, Any]]:
        """(name, lowered program) of every program, to be compiled for other chips."""
        yield "prepare", self._lower_prepare(self._resident(params))
        for shape in shapes(self.config, self.groups):
            yield shape.program, self._lower(shape)

    def get(self, shape: Shape) -> Any:
        return self._compile_once(shape, partial(self._lower, shape))

    def prepare(self, params: Params) -> Any:
        """Weights as sampling reads them: in the compute dtype, spread by `SAMPLER_RULES`.

        They are the model's variables; layers stand apart where they are unrolled.
        """

        def place(x: Any, resident: jax.ShapeDtypeStruct) -> Any:
            return (
                x if _sharding_of(x) == resident.sharding else jax.device_put(x, resident.sharding)
            )

        resident = self._resident(params)
        return self._prepare_program(resident)(jax.tree.map(place, params, resident))

    def _resident(self, params: Params) -> Params:
        """Shapes of parameters on the mesh; those from elsewhere go where sampling wants them."""

        def place(x: Any, to: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            now = _sharding_of(x)
            there = isinstance(now, NamedSharding) and now.mesh == self.mesh
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=now if there else to.sharding)

        return jax.tree.map(place, params, self._stacked)

    def _prepare_program(self, resident: Params) -> Any:
        key = tuple((x.shape, x.dtype, x.sharding) for x in jax.tree.leaves(resident))
        return self._compile_once(("prepare", key), partial(self._lower_prepare, resident))

    def _compile_once(self, key: Any, lower: Callable[[], Any]) -> Any:
        if key not in self._compiled:
            if self._compiled_all:
                self.late_compiles += 1
                logger.warning(
                    "sampler: late compilation of %s", key if isinstance(key, Shape) else key[0]
                )
            self._compiled[key] = lower().compile()
        return self._compiled[key]

    def _lower_prepare(self, resident: Params) -> Any:
        def cast(params: Params) -> Any:
            params = jax.tree.map(lambda x, to: x.astype(to.dtype), params, self._stacked)
            return unstack(params) if self.model.unrolled else {"params": params}

        with jax.set_mesh(self.mesh):
            jitted = jax.jit(cast, out_shardings=_shardings(self._weights))
            return jitted.lower(resident)

    def _lower(self, shape: Shape) -> Any:
        with jax.set_mesh(self.mesh):
            lower = {
                "prefill": self._lower_prefill,
                "empty": self._lower_empty,
                "insert": self._lower_insert,
                "regroup": self._lower_regroup,
                "decode": self._lower_decode,
            }[shape.program]
            return lower(shape)

    def _argument(self, *dims: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding.replicated(self.mesh))

    def _lower_prefill(self, shape: Shape) -> Any:
        rows = self.sizes.prefill_rows
        chunk = _shardings(self._cache(rows, shape.prompt))
        arguments = self._argument(rows, shape.prompt), self._argument(rows)
        return jax.jit(self._prefill, out_shardings=chunk).lower(self._weights, *arguments)

    def _lower_empty(self, shape: Shape) -> Any:
        cache = self._cache(shape.rows, shape.cache)

        def empty() -> KVCache:
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), cache)

        return jax.jit(empty, out_shardings=_shardings(cache)).lower()

    def _lower_insert(self, shape: Shape) -> Any:
        cache = self._cache(shape.rows, shape.cache)
        chunk = self._cache(self.sizes.prefill_rows, shape.prompt)
        index = self._argument(self.groups, self.sizes.insert_rows)
        insert = jax.jit(_insert, donate_argnums=0, out_shardings=_shardings(cache))
        return insert.lower(cache, chunk, index, index)

    def _lower_regroup(self, shape: Shape) -> Any:
        cache = self._cache(shape.rows, shape.cache)
        new = _shardings(self._cache(shape.new_rows, shape.new_cache))
        regroup = jax.jit(partial(_regroup, size=shape.new_cache), out_shardings=new)
        return regroup.lower(cache, self._argument(self.groups, shape.new_rows // self.groups))

    def _lower_decode(self, shape: Shape) -> Any:
        cache, rows = self._cache(shape.rows, shape.cache), shape.rows
        everywhere = sharding.replicated(self.mesh)
        decode = jax.jit(
            self._decode,
            donate_argnums=1,
            out_shardings=(_shardings(cache), everywhere, everywhere, everywhere),
        )
        return decode.lower(
            self._weights,
            cache,
            *(self._argument(rows) for _ in range(3)),
            self._argument(rows, 2, dtype=jnp.uint32),
            self._argument(rows, dtype=jnp.bool_),
            self._argument(),
            self._argument(dtype=jnp.float32),
        )

    def _weight_shapes(self) -> Any:
        """Shapes of the weights as sampling reads them."""
        if not self.model.unrolled:
            return {"params": self._stacked}
        axes = parameter_axes(self.model.config)["layers"]

        def cut(name: str, x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            shape, letters = x.shape[1:], axes[name][1:]
            spec = sharding.named_sharding(shape, letters, self.mesh, sharding.SAMPLER_RULES)
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=spec)

        rest = {name: x for name, x in self._stacked.items() if name != "layers"}
        layer = {name: cut(name, x) for name, x in self._stacked["layers"].items()}
        return {"params": rest, APART: {"layers": (layer,) * self.model.config.layers}}

    def _stacked_shapes(self) -> Params:
        """Shapes of the parameters as sampling casts them: norms stay float32."""
        cfg, axes = self.model.config, parameter_axes(self.model.config)
        params = jax.eval_shape(
            lambda: self.model.init(
                jax.random.key(0),
                jnp.zeros((1, 1), jnp.int32),
                jnp.ones(1, jnp.int32),
                method="prefill",
            )
        )["params"]

        def place(path: Any, x: Any, letters: str) -> jax.ShapeDtypeStruct:
            dtype = jnp.float32 if path[-1].key.endswith("norm") else jnp.dtype(cfg.dtype)
            spec = sharding.named_sharding(x.shape, letters, self.mesh, sharding.SAMPLER_RULES)
            return jax.ShapeDtypeStruct(x.shape, dtype, sharding=spec)

        return jax.tree_util.tree_map_with_path(place, params, axes)

    def _cache(self, rows: int, size: int) -> KVCache:
        cfg = self.model.config
        sizes = {
            "l": cfg.layers, "b": rows, "k": cfg.kv_heads, "s": size, "e": cfg.head_dim
        }  # fmt: skip
        unrolled = self.model.unrolled

        def layers(axes: str) -> Any:
            axes = axes if unrolled else f"l{axes}"
            dims = tuple(sizes[axis] for axis in axes)
            place = sharding.named_sharding(dims, axes, self.mesh)
            layer = jax.ShapeDtypeStruct(dims, jnp.dtype(cfg.dtype), sharding=place)
            return (layer,) * cfg.layers if unrolled else layer

        return KVCache(keys=layers(backend.key_axes()), values=layers(VALUE_AXES))

    def _prefill(
        self, weights: Any, tokens: Int[Array, "b t"], lengths: Int[Array, "b"]
    ) -> KVCache:
        tokens, lengths = constrain(tokens, "bt"), constrain(lengths, "b")
        prefilled: Any = self.model.apply(weights, tokens, lengths, method="prefill")
        return prefilled[1]

    def _decode(
        self,
        weights: Any,
        cache: KVCache,
        token: Int[Array, "b"],
        position: Int[Array, "b"],
        limit: Int[Array, "b"],
        key: UInt32[Array, "b 2"],
        active: Bool[Array, "b"],
        enough: Int[Array, ""],
        temperature: Float[Array, ""],
    ) -> tuple[KVCache, Int[Array, "b n"], Float[Array, "b n"], Int[Array, ""]]:
        """Up to n steps, while more than `enough` rows are active.

        Returns the cache, tokens (-1 where a row drew none), log-probs, and the steps done.
        """
        stop_ids = jnp.asarray(self._stop_ids)
        rows, steps = token.shape[0], self.config.slice_tokens
        apply = partial(self.model.apply, weights)
        token, position, limit, active = (
            constrain(x, "b") for x in (token, position, limit, active)
        )

        def running(carry: Any) -> Array:
            step, _, _, _, active, _, _ = carry
            return (step < steps) & (active.sum() > enough)

        def advance(carry: Any) -> Any:
            step, cache, token, position, active, tokens, logprobs = carry
            decoded: Any = apply(token, position, cache, method="decode")
            hidden, cache = decoded
            logits: Any = apply(hidden, method="unembed")
            drawn, logp = draw(
                constrain(logits, "b."),
                key,
                position + 1,
                temperature,
                valid_ids=self._valid_ids,
                top_k=self.config.top_k,
                top_p=self.config.top_p,
            )
            tokens = tokens.at[:, step].set(jnp.where(active, drawn, -1))
            logprobs = logprobs.at[:, step].set(logp)
            token = jnp.where(active, drawn, token)
            position = position + active
            ended = (drawn[:, None] == stop_ids).any(axis=1) | (position >= limit)
            return step + 1, cache, token, position, active & ~ended, tokens, logprobs

        tokens = constrain(jnp.full((rows, steps), -1, jnp.int32), "b.")
        logprobs = constrain(jnp.zeros((rows, steps), jnp.float32), "b.")
        start = (jnp.int32(0), cache, token, position, active, tokens, logprobs)
        step, cache, _, _, _, tokens, logprobs = jax.lax.while_loop(running, advance, start)
        return cache, tokens, logprobs, step


def _insert(
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
        chunk = constrain(chunk, axes.replace("b", "."))

        def one_group(rows: Array, source: Array, target: Array) -> Array:
            place: list[Any] = [slice(None)] * rows.ndim
            place[axis], place[time] = target, slice(size)
            return rows.at[tuple(place)].set(jnp.take(chunk, source, axis=axis), mode="drop")

        groups = jax.vmap(one_group, (axis, 0, 0), axis)
        return _merge(groups(_split(into, axis, source.shape[0]), source, target), axis)

    return _map_cache(copy, cache, chunk)


def _regroup(cache: KVCache, kept: Int[Array, "g n"], *, size: int) -> KVCache:
    """The `kept` rows of each group, in a cache of `size` entries a row."""

    def gather(axes: str, x: Array) -> Array:
        axis, time = axes.index("b"), axes.index("s")
        if size < x.shape[time]:
            x = jax.lax.slice_in_dim(x, 0, size, axis=time)
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


def _sharding_of(x: Any) -> Any:
    return getattr(x, "sharding", None)


def _shardings(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, tree)
