"""Candidates by formula: what fits, what it costs, and how near the formula is to the compiler."""

from __future__ import annotations

import pytest

from azr_jax.errors import UserError
from azr_jax.plan import search
from azr_jax.plan.command import configured, load, parse_gin
from azr_jax.plan.phases import GIB


@pytest.mark.parametrize(
    ("model", "generation", "chips"),
    [("3b", "v5e", 8), ("7b", "v5e", 16), ("7b", "v4", 8), ("14b", "v5e", 32)],
)
def test_the_smallest_slice_that_fits(model: str, generation: str, chips: int) -> None:
    parse_gin([f"runs/azr_{model}.gin"], generation)
    found = search.candidates(configured()[0], load(), generation)
    assert min(candidate.topology.chips for candidate in found) == chips
    assert [c.dollars for c in found] == sorted(c.dollars for c in found)


def test_a_candidate_is_within_the_kv_heads_and_the_chip() -> None:
    parse_gin(["runs/azr_3b.gin"], "v4")
    for candidate in search.candidates(configured()[0], load()):
        assert candidate.tensor <= 2  # KV heads of 3B
        assert candidate.peak <= candidate.topology.chip.hbm_gib * GIB


@pytest.mark.parametrize("generation", ["v5e-16", "v9"])
def test_an_unknown_generation_is_refused(generation: str) -> None:
    parse_gin(["runs/azr_3b.gin"], "v4")
    with pytest.raises(UserError, match="takes a generation"):
        search.candidates(configured()[0], load(), generation)


def test_nothing_fits_is_said_with_the_numbers() -> None:
    parse_gin(["runs/azr_14b.gin"], "v5e", ["ModelConfig.layers = 480"])
    with pytest.raises(UserError, match=r"133\.\d billion parameters at 14336 tokens fits no v5e"):
        search.candidates(configured()[0], load(), "v5e")
