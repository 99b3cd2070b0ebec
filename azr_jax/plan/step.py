"""What one self-play step asks of a slice, and the least time that takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azr_jax.plan import roofline
from azr_jax.plan.phases import Work
from azr_jax.plan.roofline import Estimate
from azr_jax.plan.topology import Topology

PROMPT_SHARE, COMPLETION_SHARE = 1 / 4, 1 / 8
"""How long prompts and completions are in the mean, of their limits: assumed, not measured."""


@dataclass(frozen=True)
class Load:
    """Work of one step: prompts and completions sampled, completions trained on; steps of a run.

    `drains`: how often a step fills the decode batch and lets it run dry.
    """

    prompts: int
    completions: int
    trained: int
    drains: int
    steps: int

    @classmethod
    def of(cls, play: Any, run: Any) -> Load:
        """Of a `PlayConfig` and a `RunConfig`, were every proposal valid."""
        role = len(play.task_types) * play.batch_size
        estimated = role * play.samples_per_task
        return cls(
            prompts=3 * role,
            completions=2 * role + estimated,
            trained=run.most_samples(play),
            drains=2 if play.solver_lag else 3,
            steps=run.total_steps,
        )


@dataclass(frozen=True)
class Step:
    """Seconds of one step by phase, and chip-hours of a whole run, at the chip's peaks."""

    seconds: dict[str, float]
    chip_hours: float

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def estimates(topology: Topology, work: Work, received: Mapping[str, float]) -> dict[str, Estimate]:
    """Roofline of a chunk of prefill, a decode slice, a micro-batch of log-probs, an update.

    `received`: bytes that a chip receives in each.
    """
    sizes, model, sampler = work.sizes, work.sizes.model, work.sizes.sampler
    longest, prompt = work.shapes.cache[-1], work.shapes.prompt[-1]
    chunk_tokens = work.shapes.prefill_rows * prompt
    slice_tokens = sampler.slots * sampler.slice_tokens
    micro_rows, batch_rows = sizes.rows(work.shards)
    micro_tokens = micro_rows * sizes.row_tokens
    state, weights, cache = work.state, work.weights, work.cache

    def of(name: str, flops: float, hbm: float) -> Estimate:
        return roofline.bound(topology.chip, topology.chips, flops, hbm, received[name])

    return {
        "prefill": of("prefill", roofline.forward_flops(model, chunk_tokens, prompt), weights),
        "decode": of(
            "decode",
            roofline.forward_flops(model, slice_tokens, 2 * longest),
            (weights + cache) * sampler.slice_tokens,
        ),
        "logprob": of(
            "logprob", roofline.forward_flops(model, micro_tokens, sizes.row_tokens), state / 3
        ),
        "update": of(
            "update",
            roofline.update_flops(model, batch_rows * sizes.row_tokens, sizes.row_tokens),
            2 * state,
        ),
        "reshard": of("reshard", 0.0, state / 3 + weights),
    }


def step(topology: Topology, work: Work, estimates: dict[str, Estimate], load: Load) -> Step:
    """The least time of a step: phases one after the other, each as fast as the peaks allow.

    Decode reads all weights and the whole cache for every token of a row, at the slots and the
    cache of the plan; after the queue of a drain is empty, the smallest batch goes on until a
    completion of full length has ended. The sandbox hides behind it.
    """
    sizes, sampler = work.sizes, work.sizes.sampler
    prompt = PROMPT_SHARE * sampler.max_prompt_tokens
    new = COMPLETION_SHARE * sampler.max_new_tokens
    token = estimates["decode"].seconds / sampler.slice_tokens
    few = work.shapes.slots[0] / sampler.slots
    tail = token * (work.weights + few * work.cache) / (work.weights + work.cache)
    chunk = work.shapes.prefill_rows * work.shapes.prompt[-1]
    rows = math.ceil(load.trained * (prompt + new) / sizes.row_tokens)
    seconds = {
        "reshard": load.drains * estimates["reshard"].seconds,
        "prefill": load.prompts * prompt / chunk * estimates["prefill"].seconds,
        "decode": math.ceil(load.completions / sampler.slots) * new * token
        + load.drains * (sampler.max_new_tokens - new) * tail,
        "update": max(1.0, rows / sizes.rows(work.shards)[1]) * estimates["update"].seconds,
    }
    hours = sum(seconds.values()) * topology.chips * load.steps / 3600
    return Step(seconds, hours)
