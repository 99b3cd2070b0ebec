"""FLOPs by formula, and the shortest time that a chip's peaks allow."""

from __future__ import annotations

from dataclasses import dataclass

from azr_jax.model.config import ModelConfig
from azr_jax.plan.topology import Chip


@dataclass(frozen=True)
class Estimate:
    """Lower bound of a phase on a slice: FLOPs of all chips, seconds, and what bounds them."""

    flops: float
    seconds: float
    bound: str


def matmul_parameters(model: ModelConfig) -> int:
    """Parameters that every token is multiplied with: all but an embedding that is looked up."""
    table = 0 if model.tied_embeddings else model.vocab_size * model.d_model
    return model.parameter_count() - table


def forward_flops(model: ModelConfig, tokens: float, row_tokens: float) -> float:
    """FLOPs of a forward pass over rows of `row_tokens`: 2 a parameter and token, and attention.

    Attention takes 4 x heads x head_dim a layer for each of the (causal) pairs of tokens.
    """
    pairs = tokens * row_tokens / 2
    attention = 4 * model.layers * model.heads * model.head_dim * pairs
    return 2.0 * matmul_parameters(model) * tokens + attention


def update_flops(model: ModelConfig, tokens: float, row_tokens: float) -> float:
    """FLOPs of forward and backward pass; with `remat` "full" the forward pass runs twice."""
    passes = 4 if model.remat == "full" else 3
    return passes * forward_flops(model, tokens, row_tokens)


def bound(chip: Chip, chips: int, flops: float, hbm_bytes: float, sent_bytes: float) -> Estimate:
    """The time of the slowest of arithmetic, memory and links, as if they overlapped wholly.

    `flops` are of the whole slice; `hbm_bytes` are read and written, `sent_bytes` received, by one
    chip.
    """
    times = {
        "arithmetic": flops / chips / chip.flops,
        "memory": hbm_bytes / chip.hbm_bandwidth,
        "links": sent_bytes / chip.ici_bandwidth,
    }
    slowest = max(times, key=lambda name: times[name])
    return Estimate(flops, times[slowest], slowest)
