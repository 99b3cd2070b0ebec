"""The Llama of google-tunix: a Hugging Face folder in float32, or random weights in bfloat16."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from tunix.models.llama3.model import Llama3, ModelConfig, RematConfig
from tunix.models.llama3.params import create_model_from_safe_tensors


def load(folder: str, remat: bool) -> tuple[Llama3, ModelConfig]:
    """The model and its shape; a folder without weights gives random ones."""
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
    if any(Path(folder).glob("*.safetensors")):
        return create_model_from_safe_tensors(folder, config, dtype=jnp.float32), config
    if remat:
        config = replace(config, remat_config=RematConfig.BLOCK)

    def new() -> Llama3:
        return Llama3(config, rngs=nnx.Rngs(0))

    @jax.jit
    def drawn() -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16), nnx.state(new()))

    return nnx.merge(nnx.graphdef(nnx.eval_shape(new)), drawn()), config
