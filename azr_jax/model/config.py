"""ModelConfig: the shape of every supported decoder family."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import gin

from azr_jax.errors import UserError


@gin.configurable
@dataclass(frozen=True)
class RopeScaling:
    """Llama 3 frequency scaling (`rope_type: llama3`); all positions in tokens."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = 8192


@gin.configurable
@dataclass(frozen=True)
class ModelConfig:
    """One pre-norm decoder: RMSNorm, RoPE, SwiGLU, grouped-query attention.

    Qwen2 sets `qkv_bias`, Qwen3 `qk_norm`, Llama 3 neither; `rope_scaling` is Llama 3.1's.
    Parameters are float32; `dtype` is what the forward pass computes in.
    `remat` is what the backward pass computes again of a layer: nothing, all but the products
    with weights ("dots"), or all. `unroll` is how many layers of the scan are unrolled (0: the
    backend's choice).
    """

    vocab_size: int
    d_model: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    d_ff: int
    family: Literal["llama", "qwen2", "qwen3"] = "llama"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_eps: float = 1e-6
    tied_embeddings: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    max_positions: int = 2048
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "none"
    unroll: int = 0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "layers", "heads", "kv_heads", "head_dim", "d_ff"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"ModelConfig.{name} must be at least 1, not {getattr(self, name)}"
                )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"ModelConfig.heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"ModelConfig.head_dim must be even for RoPE, not {self.head_dim}")

    def require_positions(self, prompt: int, new: int, place: str) -> None:
        """Room for a prompt and its completion, both in tokens; `place` names who asks.

        Raises:
          UserError: they exceed `max_positions`, past which the model was never trained.
        """
        if prompt + new > self.max_positions:
            raise UserError(
                f"{place}: a prompt of {prompt} tokens and {new} new ones exceed the "
                f"{self.max_positions} positions of the model; shorten the prompt, allow fewer new "
                "tokens, or take a model with more positions"
            )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> ModelConfig:
        row = dict(row)
        if row.get("rope_scaling") is not None:
            row["rope_scaling"] = RopeScaling(**row["rope_scaling"])
        return cls(**row)

    def parameter_count(self) -> int:
        """Number of trained scalars, embeddings once when tied."""
        attention = self.d_model * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        if self.qkv_bias:
            attention += self.head_dim * (self.heads + 2 * self.kv_heads)
        if self.qk_norm:
            attention += 2 * self.head_dim
        layer = attention + 3 * self.d_model * self.d_ff + 2 * self.d_model
        heads = self.vocab_size * self.d_model * (1 if self.tied_embeddings else 2)
        return self.layers * layer + heads + self.d_model
