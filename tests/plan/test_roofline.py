"""FLOPs by formula."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from azr_jax.model.attention import Layout
from azr_jax.model.config import ModelConfig
from azr_jax.model.transformer import Transformer
from azr_jax.plan import roofline
from azr_jax.plan.topology import CHIPS

MODEL = ModelConfig(
    vocab_size=512, d_model=64, layers=2, heads=4, kv_heads=2, head_dim=16, d_ff=256
)


def test_forward_flops_are_those_of_the_compiled_forward_pass() -> None:
    rows, time = 2, 64
    model = Transformer(dataclasses.replace(MODEL, unroll=2))
    tokens = jnp.zeros((rows, time), jnp.int32)
    layout = Layout.of_lengths(jnp.full(rows, time), time)
    params = model.init(jax.random.key(0), tokens, layout)

    def forward(params: object) -> jax.Array:
        hidden = model.apply(params, tokens, layout)
        return model.apply(params, hidden, method="unembed")  # type: ignore[return-value]

    counted = jax.jit(forward).lower(params).compile().cost_analysis()["flops"]
    # The compiler counts elementwise work, too, and the masked half of one chunk of attention.
    assert roofline.forward_flops(MODEL, rows * time, time) == pytest.approx(counted, rel=0.15)


def test_an_update_is_three_passes_and_remat_a_fourth() -> None:
    forward = roofline.forward_flops(MODEL, 1000, 100)
    remat = dataclasses.replace(MODEL, remat="full")
    assert roofline.update_flops(MODEL, 1000, 100) == 3 * forward
    assert roofline.update_flops(remat, 1000, 100) == 4 * forward


def test_the_slowest_of_three_bounds() -> None:
    chip = CHIPS["v5e"]
    assert roofline.bound(chip, 4, 8 * chip.flops, 0, 0).seconds == pytest.approx(2)
    assert roofline.bound(chip, 4, 0, chip.hbm_bandwidth, chip.ici_bandwidth / 2).bound == "memory"
    assert roofline.bound(chip, 4, 0, 0, chip.ici_bandwidth).bound == "links"
