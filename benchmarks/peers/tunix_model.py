"""The Llama of google-tunix with the weights of a Hugging Face folder, in float32."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.models.llama3.params import create_model_from_safe_tensors


def load(folder: str) -> tuple[Llama3, ModelConfig]:
    """The model and its shape."""
    row = json.loads((Path(folder) / "config.json").read_text())
    config = ModelConfig(
        num_layers=row["num_hidden_layers"],
        vocab_size=row["vocab_size"],
        embed_dim=row["hidden_size"],
        hidden_dim=row["intermediate_size"],
        num_heads=row["num_attention_heads"],
        head_dim=row["head_dim"],
        num_kv_heads=row["num_key_value_heads"],
        rope_theta=row["rope_theta"],
        norm_eps=row["rms_norm_eps"],
        weight_tying=row["tie_word_embeddings"],
    )
    return create_model_from_safe_tensors(folder, config, dtype=jnp.float32), config
