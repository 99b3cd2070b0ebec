"""One real sandbox for the room's tests, and small games played in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from azr_jax.selfplay.play import SelfPlay
from azr_jax.selfplay.rewards import RewardConfig
from azr_jax.selfplay.state import PlayConfig
from sandbox import Limits, Sandbox


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox(limits=Limits(cpu_s=1.0, memory_mb=256)) as box:
        yield box


@pytest.fixture
def game(box: Sandbox) -> Callable[..., SelfPlay]:
    """A small game in the compact style; keyword arguments are those of PlayConfig."""

    def make(rewards: RewardConfig | None = None, seed: int = 0, **changes: Any) -> SelfPlay:
        settings: dict[str, Any] = {
            "batch_size": 2,
            "references": 2,
            "samples_per_task": 4,
            "induction_inputs": 4,
            "prompt_style": "compact",
            "buffer_size": 100,
            "seed_target": 4,
            "max_prompt_tokens": 4000,
        }
        config = PlayConfig(**{**settings, **changes})
        return SelfPlay(config, rewards or RewardConfig(), box, len, seed)

    return make
