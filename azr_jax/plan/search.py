"""The cheapest slice and settings that should fit a run, by formula; compiling then confirms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from azr_jax.errors import UserError
from azr_jax.model import sizes as sampler_sizes
from azr_jax.plan.phases import GIB, Sizes, Work
from azr_jax.plan.step import Load, Step, estimates, step
from azr_jax.plan.topology import CHIPS, Topology, find, names

TRIES = 3
"""So many candidates are compiled, the cheapest first."""

FULL = 0.95
"""How much of a chip's memory a formula may promise away."""

MOST_CHIPS = 64


@dataclass(frozen=True)
class Candidate:
    """A slice with a mesh and a number of slots; `peak` bytes of a chip, by formula."""

    topology: Topology
    tensor: int
    slots: int
    peak: float
    step: Step

    @property
    def dollars(self) -> float:
        """List price of the run, at the chips' peaks."""
        return self.step.chip_hours * self.topology.chip.dollars

    @property
    def described(self) -> str:
        return (
            f"{self.topology.name}, MeshConfig.tensor = {self.tensor}, "
            f"SamplerConfig.slots = {self.slots}"
        )


def candidates(sizes: Sizes, load: Load, generation: str = "") -> list[Candidate]:
    """The best settings of every slice of up to 64 chips that should fit, the cheapest first.

    Raises:
      UserError: there is no such generation, or nothing should fit.
    """
    if generation and generation not in CHIPS:
        raise UserError(f"--search takes a generation ({', '.join(CHIPS)}), not {generation!r}")
    slices = (find(name) for name in names() if name.startswith(generation))
    small = [topology for topology in slices if topology.chips <= MOST_CHIPS]
    best = []
    for topology in small:
        fitting = [c for c in _settings(topology, sizes, load) if _fits(c)]
        best += sorted(fitting, key=lambda c: c.dollars)[:1]
    if not best:
        raise UserError(
            f"a model of {sizes.model.parameter_count() / 1e9:.1f} billion parameters at "
            f"{sizes.row_tokens} tokens fits no {generation or 'known'} slice of up to "
            f"{MOST_CHIPS} chips"
        )
    return sorted(best, key=lambda c: c.dollars)


def _fits(candidate: Candidate) -> bool:
    return candidate.peak <= FULL * candidate.topology.chip.hbm_gib * GIB


def _settings(topology: Topology, sizes: Sizes, load: Load) -> Iterator[Candidate]:
    model, chips = sizes.model, topology.chips
    for tensor in (1, 2, 4, 8, 16):
        if chips % tensor or model.kv_heads % tensor or model.heads % tensor:
            continue
        shards = chips // tensor
        for rows in (4, 8, 16, 32, 64, 128):
            slots = rows * shards
            if slots > load.completions:
                continue
            sampler = replace(sizes.sampler, slots=slots)
            chosen = replace(sizes, sampler=sampler)
            work = _work(chosen, chips, tensor)
            bounds = estimates(topology, work, _received(chosen, tensor, shards))
            least = step(topology, work, bounds, load)
            yield Candidate(topology, tensor, slots, peak(work, chips, tensor), least)


def _work(sizes: Sizes, chips: int, tensor: int) -> Work:
    model, sampler = sizes.model, sizes.sampler
    shards = chips // tensor
    shapes = sampler_sizes.Sizes.of(sampler, shards)
    entry = 4.0 * model.layers * model.kv_heads * model.head_dim  # a key and a value, bfloat16
    return Work(
        sizes=sizes,
        shapes=shapes,
        shards=shards,
        state=12.0 * model.parameter_count() / chips,
        weights=2.0 * model.parameter_count() / tensor,
        cache=sampler.slots * shapes.cache[-1] * entry / chips,
    )


def peak(work: Work, chips: int, tensor: int) -> float:
    """Bytes of a chip in the hungriest phase; within a tenth of what the compiler needs.

    The update holds the state, summed and new float32 gradients, the tables of the vocabulary
    whole along d, the input of every layer, and the insides of one. While sampling, the cache is
    copied when it grows from its second largest size, or the prompts of all slots wait beside it.
    """
    sizes, model = work.sizes, work.sizes.model
    tokens = sizes.micro_rows * sizes.row_tokens
    tables = (1 if model.tied_embeddings else 2) * model.vocab_size * model.d_model / tensor
    layer = 2.0 * tokens * model.d_model
    update = (
        *(work.state, 8.0 * model.parameter_count() / chips, 4.0 * tables),
        *(model.layers * layer / tensor, 8 * layer, 12.0 * tokens * model.d_ff / tensor),
    )
    lengths = work.shapes.cache
    grown = lengths[-2] / lengths[-1] if len(lengths) > 1 else 0.0
    beside = max(grown, work.shapes.prompt[-1] / lengths[-1])
    sampling = work.state + work.weights + (1 + beside) * work.cache
    return max(sum(update), sampling, work.state + 2 * work.weights)


def _received(sizes: Sizes, tensor: int, shards: int) -> dict[str, float]:
    """Bytes that a chip receives in each phase: gathered weights, reduced gradients, activations
    reduced twice a layer and pass over the tensor axis."""
    model, sampler = sizes.model, sizes.sampler
    weights = 2.0 * model.parameter_count() / tensor * (shards > 1)

    def activations(rows: float, passes: int) -> float:
        return passes * 4.0 * model.layers * rows * model.d_model * (tensor > 1)

    micro, batch = sizes.rows(shards)
    tokens = sizes.micro_rows * sizes.row_tokens
    slots = sampler.slots / shards
    prompt = sampler.prefill_rows / shards * sampler.max_prompt_tokens
    return {
        "prefill": activations(prompt, 1),
        "decode": sampler.slice_tokens * activations(slots, 1),
        "logprob": weights + activations(tokens, 1),
        "update": batch / micro * (4 * weights + activations(tokens, 5)),
        "reshard": weights,
    }
