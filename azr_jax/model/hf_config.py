"""config.json of a Hugging Face folder: to ModelConfig and back.

What the decoder does not compute is refused here, before a weight is read: a config that is only
half understood would run, and be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azr_jax.errors import UserError
from azr_jax.model.config import ModelConfig, RopeScaling

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
DEFAULT_POSITIONS = {"llama": 2048, "qwen2": 32768, "qwen3": 32768}
QWEN3_HEAD_DIM = 128
"""The defaults of transformers where a config.json leaves a key out."""

Row = dict[str, Any]


def read_config(directory: Path) -> ModelConfig:
    """The ModelConfig of `directory/config.json`.

    Raises:
      UserError: no or broken config.json, an architecture or an option that is not supported.
    """
    path = directory / "config.json"
    row = read_row(path)
    unsupported = list(_unsupported(row))
    if unsupported:
        raise UserError(f"{path}: not supported: {'; '.join(unsupported)}")
    try:
        return _parse(row)
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]} is missing") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}") from error


def read_row(path: Path) -> Row:
    """The object of a JSON file.

    Raises:
      UserError: it cannot be read, or holds no object.
    """
    try:
        row = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}: not readable: it holds no JSON object")
    return row


def token_ids(value: Any) -> tuple[int, ...]:
    """Ids of `eos_token_id`, which is one id, several or null."""
    ids = value if isinstance(value, list) else [value]
    return tuple(i for i in ids if isinstance(i, int) and not isinstance(i, bool))


def config_row(config: ModelConfig, *, dtype: str, eos_id: int, pad_id: int) -> Row:
    """`config.json` for the transformers library, of any version; `dtype` is the weights'.

    Raises:
      UserError: no architecture of transformers has this mix of biases and norms.
    """
    if (config.qkv_bias, config.qk_norm) != (config.family == "qwen2", config.family == "qwen3"):
        raise UserError(
            f"a {config.family} model with qkv_bias = {config.qkv_bias} and qk_norm = "
            f"{config.qk_norm} has no counterpart in transformers"
        )
    row: Row = {
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
        "attention_bias": False,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
        "bos_token_id": None,
        "dtype": dtype,
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
    return row


def write_config(
    directory: Path, config: ModelConfig, *, eos_id: int, pad_id: int, dtype: str = "float32"
) -> None:
    """`config.json` and `generation_config.json` for the transformers library.

    Raises:
      UserError: as `config_row`.
    """
    row = config_row(config, dtype=dtype, eos_id=eos_id, pad_id=pad_id)
    generation = {"eos_token_id": eos_id, "pad_token_id": pad_id}
    (directory / "config.json").write_text(json.dumps(row, indent=2) + "\n")
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def _parse(row: Row) -> ModelConfig:
    family = row["model_type"]
    heads = _int(row, "num_attention_heads")
    width = _int(row, "hidden_size")
    rope = _rope(row)
    head_dim = row.get("head_dim") or (QWEN3_HEAD_DIM if family == "qwen3" else width // heads)
    return ModelConfig(
        vocab_size=_int(row, "vocab_size"),
        d_model=width,
        layers=_int(row, "num_hidden_layers"),
        heads=heads,
        # Only Llama's default is the number of heads.
        kv_heads=_int(row, "num_key_value_heads", heads if family == "llama" else None),
        head_dim=head_dim,
        d_ff=_int(row, "intermediate_size"),
        family=family,
        rope_theta=float(rope.get("rope_theta") or 10_000.0),
        rope_scaling=_rope_scaling(rope),
        rms_eps=float(row.get("rms_norm_eps", 1e-6)),
        tied_embeddings=bool(row.get("tie_word_embeddings", False)),
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
        max_positions=_int(row, "max_position_embeddings", DEFAULT_POSITIONS[family]),
    )


def _int(row: Row, key: str, default: int | None = None) -> int:
    value = row.get(key, default)
    if value is None:
        raise KeyError(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} must be a whole number of 1 or more, not {value!r}")
    return value


def _unsupported(row: Row) -> Iterator[str]:
    """What the decoder would compute wrongly, in the words of the config."""
    family = row.get("model_type")
    names = row.get("architectures") or []
    if family not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        yield f"model_type {family!r} (supported are {known})"
        return
    if names and ARCHITECTURES[family] not in names:
        yield f"architectures {names} (supported is {ARCHITECTURES[family]})"
    if row.get("quantization_config"):
        yield "quantization_config: dequantize the weights first"
    if row.get("transformers_weights"):
        yield f"transformers_weights {row['transformers_weights']!r}: rename that file"
    if row.get("hidden_act", "silu") != "silu":
        yield f"hidden_act {row['hidden_act']!r} (supported is silu)"
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if row.get(key):
            yield f"{key} {row[key]}: a mixture of experts"
    if row.get("attention_bias") and family != "qwen2":
        yield f"attention_bias in a {family} model"
    if row.get("mlp_bias"):
        yield "mlp_bias"
    yield from _unsupported_window(row)
    yield from _unsupported_rope(row)


def _unsupported_window(row: Row) -> Iterator[str]:
    """Many configs name a window that no layer uses; only one in use matters."""
    kinds = set(row.get("layer_types") or ()) - {"full_attention"}
    if kinds:
        yield f"layer_types {', '.join(sorted(map(str, kinds)))} (supported is full_attention)"
    elif row.get("use_sliding_window") and row.get("sliding_window"):
        first = row.get("max_window_layers")
        layers = row.get("num_hidden_layers") or 0
        if "layer_types" not in row and (first is None or first < layers):
            yield f"a sliding window of {row['sliding_window']} tokens"


def _unsupported_rope(row: Row) -> Iterator[str]:
    rope = _rope(row)
    kind = _rope_type(rope)
    if any(isinstance(value, dict) for value in rope.values()):
        yield "rope parameters of several kinds of layer"
        return
    if kind not in ("default", "llama3"):
        yield f"rope type {kind!r} (supported are default and llama3)"
    if "mrope_section" in rope:
        yield "mrope_section: positions of several axes"
    share = rope.get("partial_rotary_factor", row.get("partial_rotary_factor"))
    if share not in (None, 1, 1.0):
        yield f"partial_rotary_factor {share}"


def _rope(row: Row) -> Row:
    """RoPE's parameters: `rope_parameters` of transformers 5, else `rope_scaling` and `rope_theta`
    beside it."""
    rope = dict(row.get("rope_scaling") or {}) | dict(row.get("rope_parameters") or {})
    if rope.get("rope_theta") is None:
        rope["rope_theta"] = row.get("rope_theta")
    return rope


def _rope_type(rope: Row) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _rope_scaling(rope: Row) -> RopeScaling | None:
    if _rope_type(rope) == "default":
        return None
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_positions=_int(rope, "original_max_position_embeddings"),
    )
