"""The phases of a step, compiled from shapes alone: what each needs of a chip's memory and links.

A phase's peak is that of its hungriest program plus all that stays on the chip meanwhile: the
float32 parameters and Adam's moments always; while sampling also the bfloat16 copy, the KV cache
and the prefilled prompts that wait to be copied into it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax

from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.state import abstract_params, abstract_state
from azr_jax.learn.update import (
    LossConfig,
    abstract_batch,
    data_shards,
    make_update,
    policy_micro_loss,
)
from azr_jax.model import backend, sharding
from azr_jax.model import sizes as sampler_sizes
from azr_jax.model.config import ModelConfig
from azr_jax.model.programs import Programs
from azr_jax.model.sizes import SamplerConfig, Shape, shapes
from azr_jax.model.transformer import Transformer
from azr_jax.plan.hlo import Traffic, traffic

GIB = 2.0**30
PHASES = ("prefill", "decode", "logprob", "update", "reshard")


@dataclass(frozen=True)
class Sizes:
    """What of a run decides its programs.

    `batch_rows`: the rows of `row_tokens` that a step is expected to fill. `most_rows`: those that
    it fills at most, which the update is compiled for.
    """

    model: ModelConfig
    sampler: SamplerConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    temperature: float
    micro_rows: int
    batch_rows: int
    most_rows: int
    row_tokens: int

    def rows(self, shards: int) -> tuple[int, int]:
        """Rows of a micro-batch, and those expected in a step, of so many data shards together."""
        micro = self.micro_rows * shards
        return micro, math.ceil(self.batch_rows / micro) * micro

    def compiled_rows(self, shards: int) -> int:
        """Rows of the update's batch, most of them empty as a rule."""
        micro = self.micro_rows * shards
        return math.ceil(self.most_rows / micro) * micro


@dataclass(frozen=True)
class Work:
    """A run cut over a mesh with so many data shards; bytes of a chip that stay while sampling.

    `shapes`: the sampler's. `state`, `weights`, `cache`: the train state, the sampler's weights and
    the longest cache.
    """

    sizes: Sizes
    shapes: sampler_sizes.Sizes
    shards: int
    state: float
    weights: float
    cache: float


@dataclass(frozen=True)
class Program:
    """Bytes of one compiled program on a chip.

    `total` is its worst moment as the compiler packed it, arguments and outputs included. (The
    `temp_size` of jax counts the gaps between temporaries twice, so it is not used.)
    `refused`: the compiler's words where the program alone exceeds the chip; then `total` is what
    it asked for.
    """

    total: float = 0.0
    arguments: float = 0.0
    outputs: float = 0.0
    reused: float = 0.0
    """Of the outputs, what lies in donated arguments."""
    traffic: Traffic = field(default_factory=Traffic)
    refused: str = ""

    @property
    def temporary(self) -> float:
        """What lies beside arguments and outputs at the worst moment."""
        return max(0.0, self.total - self.arguments - self.outputs + self.reused)


@dataclass(frozen=True)
class Phase:
    """Bytes on one chip: `peak` with all that is resident then, `temporary` of its programs."""

    peak: float
    temporary: float
    traffic: Traffic
    refused: str = ""


class Compiler:
    """Compiles the programs of a run for the devices of `mesh`, which need not be here.

    Each program once, at its largest size: the smaller ones need less.
    """

    def __init__(
        self, sizes: Sizes, mesh: jax.sharding.Mesh, known: dict[str, Program] | None = None
    ) -> None:
        """`known`: programs of the same sizes and mesh that were compiled before; grows.

        Raises:
          UserError: sizes that do not divide over the mesh.
        """
        self.sizes, self.mesh, self._shards = sizes, mesh, data_shards(mesh)
        self.model = Transformer(sizes.model)
        self._optimizer = make_optimizer(sizes.optimizer, total_steps=1)
        self._state = abstract_state(self.model, self._optimizer, mesh)
        self._params = abstract_params(self.model, mesh)
        with backend.compiling_for("tpu"):
            self.programs = Programs(
                self.model, sizes.sampler, mesh, stop_ids=(0,), valid_ids=sizes.model.vocab_size
            )
        self._done = {} if known is None else known

    @property
    def work(self) -> Work:
        """Compiles what tells the bytes."""
        weights, cache = self.program("prepare").outputs, self.program("empty").outputs
        shapes = self.programs.sizes
        return Work(self.sizes, shapes, self._shards, chip_bytes(self._state), weights, cache)

    def phases(self) -> Iterator[tuple[str, Phase]]:
        """(name, needs) of every phase, each as soon as it is compiled."""
        get, moments = self.program, chip_bytes(self._state) - chip_bytes(self._params)
        work = self.work
        state, weights, cache = work.state, work.weights, work.cache
        chunk = get("prefill").outputs
        waiting = self._waiting_chunks * chunk
        yield (
            "prefill",
            _together(
                (get("prefill"), state + cache + waiting),
                (get("insert"), state + weights + waiting),
            ),
        )
        yield (
            "decode",
            _together(
                (get("decode"), state + chunk),
                (get("regroup"), state + weights + chunk),
            ),
        )
        yield "logprob", _together((get("logprob"), moments))
        yield "update", _together((get("update"), 0.0))
        yield "reshard", _together((get("prepare"), moments))

    @property
    def _waiting_chunks(self) -> int:
        """Prefilled chunks that lie beside the one in work when all slots are filled anew."""
        return math.ceil(self.sizes.sampler.slots / self.programs.sizes.prefill_rows)

    def program(self, name: str) -> Program:
        """The largest program of that name, compiled when first asked for."""
        if name not in self._done:
            with backend.compiling_for("tpu"):
                compile_it, trips = self._compilation(name)
                self._done[name] = _measure(compile_it, trips)
        return self._done[name]

    def _compilation(self, name: str) -> tuple[Callable[[], Any], int]:
        """How to compile it, and how often its loop without a fixed number of trips runs."""
        if name == "prepare":
            _, lowered = next(self.programs.lowered(self._params))
            return lowered.compile, 1
        if name == "update":
            micro, batch = self.sizes.rows(self._shards)
            return self._update, batch // micro
        if name == "logprob":
            return self._logprob, 1
        found = [s for s in shapes(self.sizes.sampler, self.programs.groups) if s.program == name]
        if not found:  # one size alone needs no regrouping
            return lambda: None, 1
        trips = self.sizes.sampler.slice_tokens if name == "decode" else 1
        return lambda: self.programs.get(max(found, key=_extent)), trips

    def _update(self) -> Any:
        update = make_update(
            self.model,
            self._optimizer,
            self.sizes.loss,
            self.mesh,
            temperature=self.sizes.temperature,
            valid_ids=self.sizes.model.vocab_size,
            micro_rows=self.sizes.micro_rows,
        )
        rows = self.sizes.compiled_rows(self._shards)
        return update.lower(rows, self.sizes.row_tokens).compile()

    def _logprob(self) -> Any:
        """Log-probs of a micro-batch under the float32 parameters, and the loss of them."""
        chunk = self.sizes.loss.logprob_chunk * self._shards
        loss = policy_micro_loss(
            self.model,
            self.sizes.loss,
            temperature=self.sizes.temperature,
            valid_ids=self.sizes.model.vocab_size,
            chunk=chunk,
        )
        shape = (self.sizes.rows(self._shards)[0], self.sizes.row_tokens)
        batch = abstract_batch(shape, sharding.named_sharding(shape, "bt", self.mesh))
        with jax.set_mesh(self.mesh):
            return jax.jit(loss).lower(self._params, batch).compile()


def chip_bytes(tree: Any) -> float:
    """Bytes that arrays, or shapes with shardings, take on one chip."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def _extent(shape: Shape) -> int:
    return shape.rows * shape.cache + shape.new_rows * shape.new_cache + shape.prompt


def _measure(compile_it: Callable[[], Any], trips: int) -> Program:
    try:
        compiled = compile_it()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        wanted = re.search(r"\(([\d.]+)G\)", str(error))
        return Program(
            total=float(wanted[1]) * GIB if wanted else math.inf,
            refused=" ".join(str(error).partition("\n")[0].split()),
        )
    if compiled is None:
        return Program()
    memory = compiled.memory_analysis()
    return Program(
        total=memory.peak_memory_in_bytes,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        reused=memory.alias_size_in_bytes,
        traffic=traffic(compiled.as_text(), trips),
    )


def _together(*programs: tuple[Program, float]) -> Phase:
    """A phase of programs, each with the bytes beside it that are not among its arguments."""
    total = Traffic()
    for program, _ in programs:
        total += program.traffic
    return Phase(
        peak=max(program.total + beside for program, beside in programs),
        temporary=max(program.temporary for program, _ in programs),
        traffic=total,
        refused=next((program.refused for program, _ in programs if program.refused), ""),
    )
