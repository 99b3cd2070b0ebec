"""The decoder against `transformers`, and its three entries against each other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.model.attention import Layout
from azr_jax.model.config import ModelConfig, RopeScaling
from azr_jax.model.transformer import Transformer, parameter_axes, parameter_shapes

TIME = 24


def _config(family: str, **options: Any) -> ModelConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 96,
        "d_model": 64,
        "layers": 3,
        "heads": 6,
        "kv_heads": 2,
    }
    sizes |= {"head_dim": 16, "d_ff": 80, "family": family, "unroll": 1}
    return ModelConfig(**(sizes | options))


CONFIGS = {
    "qwen2 tied": _config("qwen2", qkv_bias=True, rope_theta=1e6),
    "qwen3 untied": _config("qwen3", qk_norm=True, tied_embeddings=False),
    "llama3 scaled": _config(
        "llama",
        d_model=96,
        rope_theta=5e5,
        tied_embeddings=False,
        rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64),
    ),
}


def _random_params(config: ModelConfig) -> Any:
    rng = np.random.default_rng(0)

    def leaf(shape: tuple[int, ...], axes: str) -> np.ndarray:
        # Scales are near 1; weights and biases are large enough to matter.
        norm = axes in ("d", "ld", "le")
        return (norm + 0.15 * rng.normal(size=shape)).astype(np.float32)

    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(leaf, parameter_shapes(config), parameter_axes(config), is_leaf=is_shape)


def _reference(config: ModelConfig, params: Any) -> Any:
    """The same weights in `transformers`."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    name = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}[config.family]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling:
        scaling = config.rope_scaling
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_positions,
        }
    hf = getattr(transformers, f"{name}ForCausalLM")(
        getattr(transformers, f"{name}Config")(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            intermediate_size=config.d_ff,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_eps,
            tie_word_embeddings=config.tied_embeddings,
            rope_parameters=rope,
            max_position_embeddings=512,
            attn_implementation="eager",
        )
    )
    layers = params["layers"]
    names = {
        "input_layernorm": ("attn_norm", None),
        "post_attention_layernorm": ("mlp_norm", None),
        "self_attn.q_norm": ("q_norm", None),
        "self_attn.k_norm": ("k_norm", None),
        "self_attn.q_proj": ("q", "q_bias"),
        "self_attn.k_proj": ("k", "k_bias"),
        "self_attn.v_proj": ("v", "v_bias"),
        "self_attn.o_proj": ("o", None),
        "mlp.gate_proj": ("gate", None),
        "mlp.up_proj": ("up", None),
        "mlp.down_proj": ("down", None),
    }
    state = {
        "model.embed_tokens.weight": params["embedding"],
        "model.norm.weight": params["final_norm"],
        "lm_head.weight": params.get("unembedding", params["embedding"]),
    }
    for i in range(config.layers):
        for theirs, (weight, bias) in names.items():
            if weight not in layers:
                continue
            ours = layers[weight][i]
            if weight == "o":
                ours = ours.reshape(-1, config.d_model)
            state[f"model.layers.{i}.{theirs}.weight"] = ours.reshape(ours.shape[0], -1).T
            if ours.ndim == 1:
                state[f"model.layers.{i}.{theirs}.weight"] = ours
            if bias in layers:
                state[f"model.layers.{i}.{theirs}.bias"] = layers[bias][i].reshape(-1)
    tensors = {k: torch.tensor(np.ascontiguousarray(v)) for k, v in state.items()}
    hf.load_state_dict(tensors, strict=True)
    return hf.eval()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_logits_equal_transformers_in_prefill_and_decode(config: ModelConfig) -> None:
    params = _random_params(config)
    reference = _reference(config, params)
    torch = pytest.importorskip("torch")
    tokens = np.random.default_rng(1).integers(0, config.vocab_size, (2, TIME)).astype(np.int32)
    with torch.no_grad():
        wanted = reference(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    assert np.abs(wanted).max() > 1
    apply = partial(Transformer(config).apply, {"params": jax.tree.map(jnp.asarray, params)})

    @jax.jit
    def forward(tokens: jax.Array) -> Any:
        hidden = apply(tokens, Layout.of_lengths(jnp.array([TIME, TIME]), TIME))
        return apply(hidden, method="unembed")

    @jax.jit
    def prefill(tokens: jax.Array) -> Any:
        return apply(tokens, jnp.array([9, 13]), method="prefill")

    @jax.jit
    def decode(tokens: jax.Array, positions: jax.Array, cache: Any) -> Any:
        hidden, cache = apply(tokens, positions, cache, method="decode")
        return apply(hidden, method="unembed"), cache

    np.testing.assert_allclose(forward(tokens), wanted, atol=5e-5)
    last, cache = prefill(tokens)
    logits = apply(last, method="unembed")
    np.testing.assert_allclose(logits, wanted[[0, 1], [8, 12]], atol=5e-5)
    for step in range(4):
        positions = np.array([9, 13]) + step
        logits, cache = decode(tokens[[0, 1], positions], positions, cache)
        np.testing.assert_allclose(logits, wanted[[0, 1], positions], atol=5e-5)


def test_unrolled_layers_equal_scanned_ones() -> None:
    config = CONFIGS["qwen2 tied"]
    params = {"params": jax.tree.map(jnp.asarray, _random_params(config))}
    unrolled = ModelConfig(**{**config.to_json(), "unroll": config.layers})
    tokens = np.arange(16, dtype=np.int32).reshape(2, 8)
    results = []
    for each in (config, unrolled):

        @jax.jit
        def run(tokens: jax.Array, model: Transformer = Transformer(each)) -> Any:  # noqa: B008
            lengths = jnp.array([5, 7])
            last, cache = model.apply(params, tokens, lengths, method="prefill")
            return last, model.apply(params, tokens[:, 0], lengths, cache, method="decode")

        last, (hidden, cache) = run(tokens)
        keys = cache.keys if isinstance(cache.keys, jax.Array) else jnp.stack(cache.keys)
        results.append((last, hidden, keys))
    for scanned, apart in zip(*results, strict=True):
        np.testing.assert_allclose(scanned, apart, atol=1e-5)


def test_packed_branches_equal_separate_sequences() -> None:
    """Two prompts in a row, the first with two samples that share it; then padding."""
    config = CONFIGS["qwen3 untied"]
    params = jax.tree.map(jnp.asarray, _random_params(config))
    apply = partial(Transformer(config).apply, {"params": params})
    rng = np.random.default_rng(2)
    prefix, *tails = (rng.integers(0, 96, n).tolist() for n in (5, 3, 4))
    other = rng.integers(0, 96, 6).tolist()
    tokens = prefix + tails[0] + tails[1] + other + [0, 0]
    layout = Layout(
        positions=jnp.array([[*range(5), *range(5, 8), *range(5, 9), *range(6), 0, 0]]),
        segments=jnp.array([[1] * 12 + [2] * 6 + [0] * 2]),
        branches=jnp.array([[0] * 5 + [1] * 3 + [2] * 4 + [0] * 8]),
    )
    packed = jax.jit(apply)(jnp.array([tokens]), layout)[0]
    rows = [prefix + tails[0], prefix + tails[1], other]
    padded = np.zeros((3, 9), np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    lengths = jnp.array([len(ids) for ids in rows])
    alone = jax.jit(apply)(padded, Layout.of_lengths(lengths, 9))
    np.testing.assert_allclose(packed[:8], alone[0, :8], atol=2e-5)
    np.testing.assert_allclose(packed[8:12], alone[1, 5:9], atol=2e-5)
    np.testing.assert_allclose(packed[12:18], alone[2, :6], atol=2e-5)
    assert np.isfinite(packed).all()


def test_parameter_count_and_axes_fit_the_tree() -> None:
    for config in CONFIGS.values():
        shapes = jax.eval_shape(
            lambda config=config: Transformer(config).init(
                jax.random.key(0),
                jnp.zeros((1, 1), jnp.int32),
                jnp.ones(1, jnp.int32),
                method="prefill",
            )
        )["params"]
        assert sum(x.size for x in jax.tree.leaves(shapes)) == config.parameter_count()
        jax.tree.map(
            lambda x, axes: [None for _ in zip(x.shape, axes, strict=True)],
            shapes,
            parameter_axes(config),
        )
        assert ModelConfig.from_json(config.to_json()) == config


def test_what_is_computed_again_saves_memory_and_changes_no_gradient() -> None:
    tokens = jnp.arange(2 * TIME).reshape(2, TIME) % 96
    layout = Layout.of_lengths(jnp.array([TIME, 9]), TIME)
    config = replace(CONFIGS["qwen2 tied"], layers=2)
    params = _random_params(config)

    def gradient(config: ModelConfig) -> tuple[Any, int]:
        def loss(params: Any) -> jax.Array:
            hidden: Any = Transformer(config).apply({"params": params}, tokens, layout)
            return (hidden**2).mean()

        compiled = jax.jit(jax.grad(loss)).lower(params).compile()
        return compiled(params), compiled.memory_analysis().temp_size_in_bytes

    expected, most = gradient(config)
    for remat in ("dots", "full"):
        found, kept = gradient(replace(config, remat=remat))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
        assert kept < most
        most = kept
