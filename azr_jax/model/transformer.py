"""The Flax (Linen) decoder. Parameters are stacked on `l`; it returns hidden states, never logits.

Three entries share one block: `__call__` (packed training batch), `prefill` (prompts into a KV
cache) and `decode` (one token a row). `unembed` turns hidden states into logits, a few at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from azr_jax.model import attention, backend
from azr_jax.model.attention import Layout
from azr_jax.model.config import ModelConfig
from azr_jax.model.sharding import constrain, per_shard

Params = Any
"""The parameter tree: {"embedding", "layers": {name: [l, ...]}, "final_norm", "unembedding"?}."""


APART = "apart"
"""Collection of variables with the layers one by one, where sampling unrolls them (`unstack`)."""

VALUE_AXES = "bkse"
"""Axes of the cached values of a layer."""

LayerArrays = Float[Array, "l b k _ _"] | tuple[Float[Array, "b k _ _"], ...]


@flax.struct.dataclass
class KVCache:
    """Keys and values of every layer; entry `i` of a row is the token at position `i`.

    A layer's values are [b, k, s, e], its keys lie along `backend.key_axes`.
    Stacked on `l` where the layers are scanned; one array a layer where they are unrolled: a layer
    cut out of a stacked cache is a copy on CPU (4x the time of attention).
    """

    keys: LayerArrays
    values: LayerArrays


Attend = Callable[[Array, Array, Array, Any], tuple[Array, Any]]


def parameter_axes(config: ModelConfig) -> Params:
    """Logical axes of every parameter, one letter a dimension, as a tree like the parameters."""
    layers = {
        "attn_norm": "ld",
        "q": "lDhe",
        "k": "lDke",
        "v": "lDke",
        "o": "lheD",
        "mlp_norm": "ld",
        "gate": "lDf",
        "up": "lDf",
        "down": "lfD",
    }
    if config.qkv_bias:
        layers |= {"q_bias": "lhe", "k_bias": "lke", "v_bias": "lke"}
    if config.qk_norm:
        layers |= {"q_norm": "le", "k_norm": "le"}
    tree = {"embedding": "vD", "layers": layers, "final_norm": "d"}
    if not config.tied_embeddings:
        tree["unembedding"] = "vD"
    return tree


def parameter_shapes(config: ModelConfig) -> Params:
    """Shape of every parameter, as a tree like the parameters."""
    sizes = {
        "v": config.vocab_size,
        "d": config.d_model,
        "D": config.d_model,
        "l": config.layers,
        "h": config.heads,
        "k": config.kv_heads,
        "e": config.head_dim,
        "f": config.d_ff,
    }
    return jax.tree.map(lambda axes: tuple(sizes[a] for a in axes), parameter_axes(config))


def unstack(params: Params) -> dict[str, Any]:
    """Variables whose layers are arrays of their own.

    CPU copies what it cuts out of a stack, and would do so for every token.
    """
    stacked = params["layers"]
    rest = {name: x for name, x in params.items() if name != "layers"}
    layers = tuple({n: x[i] for n, x in stacked.items()} for i in range(len(stacked["q"])))
    return {"params": rest, APART: {"layers": layers}}


class Transformer(nn.Module):
    """A decoder-only transformer; see `ModelConfig` for the families it covers."""

    config: ModelConfig

    def setup(self) -> None:
        shapes = parameter_shapes(self.config)
        residual_scale = 0.02 / math.sqrt(2 * self.config.layers)
        normal, ones, zeros = nn.initializers.normal, nn.initializers.ones, nn.initializers.zeros

        def initialiser(name: str) -> Any:
            if name.endswith("norm"):
                return ones
            if name.endswith("bias"):
                return zeros
            return normal(residual_scale if name in ("o", "down") else 0.02)

        def declare(scope_name: str, shape: Any) -> Any:
            return self.param(scope_name, initialiser(scope_name), shape, jnp.float32)

        def declare_layers(key: Array) -> dict[str, Array]:
            names = sorted(shapes["layers"])
            keys = jax.random.split(key, len(names))
            return {
                n: initialiser(n)(k, shapes["layers"][n], jnp.float32)
                for n, k in zip(names, keys, strict=True)
            }

        self.embedding = declare("embedding", shapes["embedding"])
        apart = self.has_variable(APART, "layers")
        layers: Any = (
            self.get_variable(APART, "layers") if apart else self.param("layers", declare_layers)
        )
        self.layers = layers
        self.final_norm = declare("final_norm", shapes["final_norm"])
        if not self.config.tied_embeddings:
            self.unembedding = declare("unembedding", shapes["unembedding"])

    def __call__(self, tokens: Int[Array, "b t"], layout: Layout) -> Float[Array, "b t d"]:
        """Hidden states after the final norm, at every token of a packed batch."""

        def attend(q: Array, k: Array, v: Array, _: Any) -> tuple[Array, Any]:
            return attention.packed(q, k, v, layout), None

        hidden, _ = self._run(self._embed(tokens), layout.positions, attend, None)
        return hidden

    def prefill(
        self, tokens: Int[Array, "b t"], lengths: Int[Array, "b"]
    ) -> tuple[Float[Array, "b d"], KVCache]:
        """Hidden state at the last token of right-padded prompts, and their cache of size t."""
        layout = Layout.of_lengths(lengths, tokens.shape[1])

        def attend(q: Array, k: Array, v: Array, _: Any) -> tuple[Array, Any]:
            kept = _cache_entries(k, backend.key_axes()), _cache_entries(v, VALUE_AXES)
            return attention.packed(q, k, v, layout), kept

        x = self._embed(tokens)
        if self.unrolled:
            nothing = (None,) * self.config.layers
            hidden, kept = self._run_unrolled(x, layout.positions, attend, nothing)
            keys, values = zip(*kept, strict=True)
        else:
            hidden, (keys, values) = self._run(x, layout.positions, attend, None)
        last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
        return last, KVCache(keys=keys, values=values)

    def decode(
        self, tokens: Int[Array, "b"], positions: Int[Array, "b"], cache: KVCache
    ) -> tuple[Float[Array, "b d"], KVCache]:
        """One step: write `tokens` at `positions` of the cache, return their hidden states.

        A stacked cache rides in the layer scan's carry, so that it is updated in place. Positions
        past the end of the cache write nothing.
        """

        def write(cache: Array, axes: str, new: Array, *layer: Array) -> Array:
            def local(cache: Array, new: Array, positions: Array, *layer: Array) -> Array:
                at = {"b": jnp.arange(new.shape[0]), "s": positions}
                return cache.at[(*layer, *(at.get(axis, slice(None)) for axis in axes))].set(new)

            # Each chip its own rows: the compiler would send every row's entry to every chip.
            whole = f"l{axes}" if layer else axes
            arrays = cache, new[:, 0].astype(cache.dtype), positions, *map(jnp.asarray, layer)
            cut = (whole, "bke", "b", *("" for _ in layer))
            return per_shard(local, *arrays, axes=cut, out_axes=whole)

        def attend(q: Array, k: Array, v: Array, state: Any) -> tuple[Array, Any]:
            keys = write(state[0], backend.key_axes(), k)
            values = write(state[1], VALUE_AXES, v)
            return attention.cached(q[:, 0], keys, values, positions + 1)[:, None], (keys, values)

        def attend_stacked(q: Array, k: Array, v: Array, state: Any) -> tuple[Array, Any]:
            layer, keys, values = state
            keys = write(keys, backend.key_axes(), k, layer)
            values = write(values, VALUE_AXES, v, layer)
            context = attention.cached(q[:, 0], keys[layer], values[layer], positions + 1)
            return context[:, None], (layer + 1, keys, values)

        x = self._embed(tokens[:, None])
        if self.unrolled:
            states = tuple(zip(cache.keys, cache.values, strict=True))
            hidden, states = self._run_unrolled(x, positions[:, None], attend, states)
            keys, values = zip(*states, strict=True)
        else:
            state = (0, cache.keys, cache.values)
            hidden, (_, keys, values) = self._run(x, positions[:, None], attend_stacked, state)
        return hidden[:, 0], KVCache(keys=keys, values=values)

    def unembed(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """float32 logits, never rounded to the model's dtype."""
        table = self.embedding if self.config.tied_embeddings else self.unembedding
        return backend.float32_matmul(hidden, table.T)

    def _embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        # Cut along time only then: at once, every chip would gather the whole table.
        x = constrain(self.embedding[tokens].astype(self.config.dtype), "btd")
        return constrain(x, "bTd")

    def _run(
        self, x: Float[Array, "b t d"], positions: Int[Array, "b t"], attend: Attend, state: Any
    ) -> tuple[Float[Array, "b t d"], Any]:
        """All layers. With `state` None, `attend`'s results are stacked on `l` instead."""
        cfg = self.config
        rope = backend.materialise(*rope_tables(constrain(positions, "bt"), cfg))

        def layer(carry: tuple[Array, Any], weights: dict[str, Array]) -> tuple[Any, Any]:
            x, state = carry
            x, new = block(x, weights, rope, attend, state, cfg)
            return ((x, None), new) if state is None else ((x, new), None)

        layer = _remat(layer, cfg.remat)
        unroll = backend.layer_unroll(cfg.layers, cfg.unroll)
        (x, state), stacked = jax.lax.scan(layer, (x, state), self.layers, unroll=unroll)
        hidden = rms_norm(x, self.final_norm, cfg.rms_eps)
        return hidden, stacked if state is None else state

    @property
    def unrolled(self) -> bool:
        """Are the layers of `prefill` and `decode` unrolled, and their caches apart?"""
        return backend.sampling_unrolled(self.config.layers, self.config.unroll)

    def _run_unrolled(
        self,
        x: Float[Array, "b t d"],
        positions: Int[Array, "b t"],
        attend: Attend,
        states: tuple[Any, ...],
    ) -> tuple[Float[Array, "b t d"], tuple[Any, ...]]:
        """All layers one by one, each with its own state; inference only."""
        cfg = self.config
        rope = backend.materialise(*rope_tables(constrain(positions, "bt"), cfg))
        results = []
        layers = self.layers
        if not isinstance(layers, tuple):
            layers = [{n: x[i] for n, x in layers.items()} for i in range(cfg.layers)]
        for weights, state in zip(layers, states, strict=True):
            x, result = block(x, weights, rope, attend, state, cfg)
            results.append(result)
        return rms_norm(x, self.final_norm, cfg.rms_eps), tuple(results)


def _remat(layer: Callable[..., Any], remat: str) -> Callable[..., Any]:
    """What the backward pass computes again: nothing, all but the weights' products, or all."""
    if remat == "none":
        return layer
    policies = jax.checkpoint_policies
    kept = policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(layer, policy=kept)


def block(
    x: Float[Array, "b t d"],
    w: dict[str, Array],
    rope: tuple[Array, ...],
    attend: Attend,
    state: Any,
    cfg: ModelConfig,
) -> tuple[Float[Array, "b t d"], Any]:
    """One pre-norm layer: attention, then SwiGLU."""
    b, t, _ = x.shape
    y = constrain(rms_norm(x, w["attn_norm"], cfg.rms_eps), "btd")
    q, k, v = (_project(y, w, name) for name in ("q", "k", "v"))
    if cfg.qk_norm:
        q = rms_norm(q, w["q_norm"], cfg.rms_eps)
        k = rms_norm(k, w["k_norm"], cfg.rms_eps)
    q, k = rotate(q, rope), rotate(k, rope)
    context, state = attend(constrain(q, "bthe"), constrain(k, "btke"), v, state)
    flat = context.reshape(b, t, cfg.heads * cfg.head_dim)
    x = x + backend.matmul(flat, w["o"].reshape(-1, cfg.d_model))
    x = constrain(x, "bTd")
    y = constrain(rms_norm(x, w["mlp_norm"], cfg.rms_eps), "btd")
    inner = jax.nn.silu(backend.matmul(y, w["gate"])) * backend.matmul(y, w["up"])
    x = x + backend.matmul(constrain(inner, "btf"), w["down"])
    return constrain(x, "bTd"), state


def _cache_entries(x: Float[Array, "b s k e"], axes: str) -> Array:
    """Keys or values of a prompt as a cache holds them."""
    return constrain(x.transpose(["bske".index(axis) for axis in axes]), axes)


def _project(y: Float[Array, "b t d"], w: dict[str, Array], name: str) -> Array:
    weight = w[name]
    out = backend.matmul(y, weight.reshape(weight.shape[0], -1))
    out = out.reshape(*y.shape[:-1], *weight.shape[1:])
    bias = w.get(f"{name}_bias")
    return out if bias is None else out + bias.astype(out.dtype)


def rms_norm(x: Float[Array, "*b d"], scale: Float[Array, "d"], eps: float) -> Float[Array, "*b d"]:
    """Computed in float32, returned in the dtype of `x`."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
    return (y * scale).astype(x.dtype)


def rope_frequencies(cfg: ModelConfig) -> Float[Array, "half"]:
    """Angular frequencies in radians per token, with Llama 3 scaling when configured."""
    half = cfg.head_dim // 2
    freq = cfg.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    scaling = cfg.rope_scaling
    if scaling is None:
        return freq
    turns = scaling.original_positions * freq / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    smooth = jnp.clip((turns - scaling.low_freq_factor) / span, 0.0, 1.0)
    return freq * ((1 - smooth) / scaling.factor + smooth)


def rope_tables(positions: Int[Array, "b t"], cfg: ModelConfig) -> tuple[Array, Array]:
    """cos and sin, float32 [b, t, 1, e/2]."""
    angle = positions[..., None, None].astype(jnp.float32) * rope_frequencies(cfg)
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Float[Array, "b t h e"], rope: tuple[Array, ...]) -> Float[Array, "b t h e"]:
    """Rotary embedding in the half-split layout of Hugging Face checkpoints."""
    cos, sin = rope
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
