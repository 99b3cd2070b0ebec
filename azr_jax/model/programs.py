"""The sampler's device programs: every static shape, compiled ahead.

`prepare` (weights of a phase), `prefill`, `empty` (a cache), `insert` (prompts into rows), `decode`
(a slice of steps) and `regroup` (another number of rows or cache length).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int, UInt32

from azr_jax.model import backend, sharding
from azr_jax.model.cache import insert, regroup
from azr_jax.model.sampling import draw
from azr_jax.model.sharding import constrain
from azr_jax.model.sizes import SamplerConfig, Shape, Sizes, shapes
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

    def compile_all(self, params: Params, compiled: Callable[[], None] = lambda: None) -> None:
        """`params`: the parameters that `prepare` will get, or their shapes with shardings.

        `compiled` is called after every program.
        """
        self._prepare_program(self._resident(params))
        compiled()
        for shape in shapes(self.config, self.groups):
            self.get(shape)
            compiled()
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
        jitted = jax.jit(insert, donate_argnums=0, out_shardings=_shardings(cache))
        return jitted.lower(cache, chunk, index, index)

    def _lower_regroup(self, shape: Shape) -> Any:
        cache = self._cache(shape.rows, shape.cache)
        new = _shardings(self._cache(shape.new_rows, shape.new_cache))
        jitted = jax.jit(partial(regroup, size=shape.new_cache), out_shardings=new)
        return jitted.lower(cache, self._argument(self.groups, shape.new_rows // self.groups))

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
            # Cut along the vocabulary first: at once, every chip would gather the whole table.
            logits = constrain(constrain(logits, "bv"), "b.")
            drawn, logp = draw(
                logits,
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


def _sharding_of(x: Any) -> Any:
    return getattr(x, "sharding", None)


def _shardings(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, tree)
