"""Hugging Face folders: config.json and safetensors to ModelConfig and parameters, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from azr_jax.errors import UserError
from azr_jax.model.config import ModelConfig, RopeScaling
from azr_jax.model.transformer import Params, parameter_shapes

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_EMBEDDING, _FINAL_NORM, _UNEMBEDDING = (
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
)
_LAYER_NAMES = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}


def read_config(directory: Path) -> ModelConfig:
    """The ModelConfig of `directory/config.json`.

    Raises:
      UserError: no or broken config.json, or an architecture that is not supported.
    """
    path = directory / "config.json"
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable model config: {error}") from error
    family = row.get("model_type")
    if family not in ARCHITECTURES:
        raise UserError(
            f"{path}: model_type {family!r} is not supported, only {', '.join(ARCHITECTURES)}"
        )
    rope = row.get("rope_parameters") or {}
    heads = row["num_attention_heads"]
    return ModelConfig(
        vocab_size=row["vocab_size"],
        d_model=row["hidden_size"],
        layers=row["num_hidden_layers"],
        heads=heads,
        kv_heads=row.get("num_key_value_heads", heads),
        head_dim=row.get("head_dim") or row["hidden_size"] // heads,
        d_ff=row["intermediate_size"],
        family=family,
        rope_theta=float(rope.get("rope_theta") or row.get("rope_theta") or 10_000.0),
        rope_scaling=_rope_scaling(path, row.get("rope_scaling") or rope),
        rms_eps=row.get("rms_norm_eps", 1e-6),
        tied_embeddings=row.get("tie_word_embeddings", False),
        qkv_bias=family == "qwen2" or bool(row.get("attention_bias")),
        qk_norm=family == "qwen3",
        max_positions=row.get("max_position_embeddings", 2048),
    )


def write_config(directory: Path, config: ModelConfig, *, eos_id: int, pad_id: int) -> None:
    """`config.json` and `generation_config.json` for the transformers library."""
    row: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.d_ff,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_eps,
        "tie_word_embeddings": config.tied_embeddings,
        "max_position_embeddings": config.max_positions,
        "rope_theta": config.rope_theta,
        "attention_bias": config.qkv_bias and config.family == "llama",
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
        "bos_token_id": None,
        "dtype": "float32",
    }
    if config.rope_scaling is not None:
        scaling = config.rope_scaling
        row["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_positions,
        }
    generation = {"eos_token_id": eos_id, "pad_token_id": pad_id}
    (directory / "config.json").write_text(json.dumps(row, indent=2) + "\n")
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def read_params(directory: Path, config: ModelConfig) -> Params:
    """float32 NumPy parameters from `directory/*.safetensors`.

    Raises:
      UserError: names the tensors that are missing, superfluous or misshapen.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise UserError(f"{directory}: no *.safetensors file")
    tensors: dict[str, np.ndarray] = {}
    for path in files:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: damaged or not safetensors: {error}") from error
    expected = dict(_named_shapes(config))
    missing = sorted(expected.keys() - tensors.keys())
    superfluous = sorted(tensors.keys() - expected.keys() - {_UNEMBEDDING})
    misshapen = [
        f"{name} {tensors[name].shape} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    for what, names in (
        ("missing", missing),
        ("superfluous", superfluous),
        ("misshapen", misshapen),
    ):
        if names:
            raise UserError(f"{directory}: {what} tensors: {', '.join(names)}")
    shapes = parameter_shapes(config)
    layers: dict[str, np.ndarray] = {}
    for name, shape in shapes["layers"].items():
        stack = [tensors[_layer(i, name)].astype(np.float32) for i in range(config.layers)]
        layers[name] = np.stack([_to_ours(w) for w in stack]).reshape(shape)
    params: Params = {
        "embedding": tensors[_EMBEDDING].astype(np.float32),
        "layers": layers,
        "final_norm": tensors[_FINAL_NORM].astype(np.float32),
    }
    if not config.tied_embeddings:
        params["unembedding"] = tensors[_UNEMBEDDING].astype(np.float32)
    return params


def write_params(directory: Path, params: Params, config: ModelConfig) -> None:
    """`directory/model.safetensors`, float32, with the names that transformers expects."""
    tensors = {
        _EMBEDDING: np.asarray(params["embedding"]),
        _FINAL_NORM: np.asarray(params["final_norm"]),
    }
    if not config.tied_embeddings:
        tensors[_UNEMBEDDING] = np.asarray(params["unembedding"])
    shapes = dict(_named_shapes(config))
    for name, stacked in params["layers"].items():
        for i in range(config.layers):
            key = _layer(i, name)
            tensors[key] = _to_theirs(np.asarray(stacked[i]), shapes[key])
    contiguous = {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()}
    save_file(contiguous, directory / "model.safetensors", metadata={"format": "pt"})


def _layer(index: int, name: str) -> str:
    return f"model.layers.{index}.{_LAYER_NAMES[name]}"


def _named_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the folder and its shape: projections are [out, in] there."""
    shapes = parameter_shapes(config)
    yield _EMBEDDING, shapes["embedding"]
    yield _FINAL_NORM, shapes["final_norm"]
    if not config.tied_embeddings:
        yield _UNEMBEDDING, shapes["unembedding"]
    for name, (layers, *shape) in shapes["layers"].items():
        if name == "o":
            flat: tuple[int, ...] = (shape[-1], shape[0] * shape[1])
        elif name in ("q", "k", "v"):
            flat = (shape[1] * shape[2], shape[0])
        elif name.endswith("_bias"):
            flat = (shape[0] * shape[1],)
        else:
            flat = tuple(reversed(shape))
        for i in range(layers):
            yield _layer(i, name), flat


def _to_ours(weight: np.ndarray) -> np.ndarray:
    return weight.T if weight.ndim == 2 else weight


def _to_theirs(weight: np.ndarray, flat: tuple[int, ...]) -> np.ndarray:
    return weight.reshape(flat[::-1]).T if len(flat) == 2 else weight.reshape(flat)


def _rope_scaling(path: Path, row: dict[str, Any]) -> RopeScaling | None:
    kind = row.get("rope_type", row.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise UserError(f"{path}: rope scaling {kind!r} is not supported, only llama3")
    return RopeScaling(
        factor=row["factor"],
        low_freq_factor=row["low_freq_factor"],
        high_freq_factor=row["high_freq_factor"],
        original_positions=row["original_max_position_embeddings"],
    )
