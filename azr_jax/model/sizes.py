"""Sizes of the sampling loop, and the list of static shapes that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import gin

from azr_jax.errors import UserError
from azr_jax.model.config import ModelConfig


@gin.configurable
@dataclass(frozen=True)
class SamplerConfig:
    """Sizes of the sampling loop, in rows and tokens.

    slots: rows decoded at once; divisible by the mesh's batch axes.
    slice_tokens: steps between two looks of the host; a slice ends early when rows can be refilled.
    max_prompt_tokens, max_new_tokens: bounds; together they are the longest cache.
    top_p, top_k: narrow the draw; 1.0 and 0 cost nothing.
    stop_strings: end a completion, which keeps them; in self-play and evaluations only where its
        answer is complete: `</answer>` among the thoughts ends nothing.
    prefill_rows: prompts prefilled at once, rounded up to the mesh's batch axes.
    prompt_sizes, cache_sizes, slot_sizes: how many sizes of each are compiled.
    """

    slots: int = 64
    slice_tokens: int = 16
    max_prompt_tokens: int = 128
    max_new_tokens: int = 96
    top_p: float = 1.0
    top_k: int = 0
    stop_strings: tuple[str, ...] = ("</answer>",)
    prefill_rows: int = 8
    prompt_sizes: int = 3
    cache_sizes: int = 2
    slot_sizes: int = 2

    def __post_init__(self) -> None:
        for name in (
            "slots",
            "slice_tokens",
            "max_prompt_tokens",
            "max_new_tokens",
            "prefill_rows",
            "prompt_sizes",
            "cache_sizes",
            "slot_sizes",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"SamplerConfig.{name} must be at least 1")
        if not 0 < self.top_p <= 1:
            raise UserError(f"SamplerConfig.top_p must be in (0, 1], not {self.top_p}")
        if self.top_k < 0:
            raise UserError(f"SamplerConfig.top_k must not be negative, not {self.top_k}")

    def require_positions(self, model: ModelConfig) -> None:
        """Raises UserError where the longest prompt and completion exceed the model's positions."""
        place = "SamplerConfig.max_prompt_tokens and max_new_tokens"
        model.require_positions(self.max_prompt_tokens, self.max_new_tokens, place)


class Shape(NamedTuple):
    """Static sizes of one compiled program; those that it does not have are 0."""

    program: str
    rows: int = 0
    cache: int = 0
    prompt: int = 0
    new_rows: int = 0
    new_cache: int = 0


@dataclass(frozen=True)
class Sizes:
    """The sizes that `SamplerConfig` asks for on a mesh with `groups` batch parts; ascending."""

    slots: tuple[int, ...]
    cache: tuple[int, ...]
    prompt: tuple[int, ...]
    prefill_rows: int
    insert_rows: int

    @classmethod
    def of(cls, config: SamplerConfig, groups: int) -> Sizes:
        if config.slots % groups:
            raise UserError(
                f"SamplerConfig.slots ({config.slots}) must be a multiple of {groups}, "
                "the mesh's data x fsdp"
            )
        slots = [config.slots]
        while len(slots) < config.slot_sizes and slots[-1] // 2 >= groups:
            slots.append(math.ceil(slots[-1] / 2 / groups) * groups)
        prefill_rows = math.ceil(config.prefill_rows / groups) * groups
        return cls(
            slots=tuple(sorted(set(slots))),
            cache=_lengths(config.max_prompt_tokens + config.max_new_tokens, config.cache_sizes),
            prompt=_lengths(config.max_prompt_tokens, config.prompt_sizes),
            prefill_rows=prefill_rows,
            insert_rows=min(config.slots, 4 * prefill_rows) // groups,
        )


def _lengths(longest: int, count: int) -> tuple[int, ...]:
    """`count` lengths up to `longest`: 1, 3/4, 1/2, 3/8, … of it, rounded up to whole tiles."""
    tile = 128 if longest >= 1024 else 16
    fractions = [(1 - 0.25 * (i % 2)) / 2 ** (i // 2) for i in range(count)]
    return tuple(sorted({math.ceil(longest * f / tile) * tile for f in fractions}))


def shapes(config: SamplerConfig, groups: int = 1) -> list[Shape]:
    """Every program of a sampler on a mesh with `groups` batch parts, for compiling ahead."""
    sizes = Sizes.of(config, groups)
    most = sizes.slots[-1]
    found = [Shape("prefill", prompt=p) for p in sizes.prompt]
    found += [Shape("empty", rows=most, cache=c) for c in sizes.cache]
    found += [
        Shape("insert", rows=most, cache=c, prompt=p) for c in sizes.cache for p in sizes.prompt
    ]
    found += [Shape("decode", rows=b, cache=c) for b in sizes.slots for c in sizes.cache]
    for b in sizes.slots:
        for small, large in zip(sizes.cache, sizes.cache[1:], strict=False):
            found.append(Shape("regroup", rows=b, cache=small, new_rows=b, new_cache=large))
            found.append(Shape("regroup", rows=b, cache=large, new_rows=b, new_cache=small))
    for small, large in zip(sizes.slots, sizes.slots[1:], strict=False):
        for c in sizes.cache:
            found.append(Shape("regroup", rows=large, cache=c, new_rows=small, new_cache=c))
    return found
