"""`azr plan`: from parsed gin and the name of a slice to its table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import Progress

from azr_jax import config as gin_config
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.plan import report, roofline
from azr_jax.plan.phases import PHASES, Compiler, Phase, Sizes
from azr_jax.plan.roofline import Estimate
from azr_jax.plan.topology import Topology, devices, find
from azr_jax.run import RunConfig

RUN_ONLY = (
    *("INIT_CHECKPOINT = ''", "RUN_DIR = ''", "TOTAL_STEPS = 1"),
    *("RunConfig.run_dir = ''", "RunConfig.total_steps = 1"),
)
"""What a plan does not need to be told. Bindings of the user's come after them."""


def hardware_file(name: str) -> str:
    """The gin file of a slice's generation.

    Raises:
      UserError: there is no such slice.
    """
    return f"hardware/{find(name).chip.generation}.gin"


def plan_command(name: str) -> dict[str, Any]:
    """Compiles what the parsed gin describes for a slice and prints the table; returns the JSON.

    Raises:
      UserError: an unknown slice, no compiler, a mesh that does not fill the slice, sizes that do
        not divide over it.
    """
    topology = find(name)
    run: RunConfig = gin_config.build("RunConfig")
    mesh_config: MeshConfig = gin_config.build("MeshConfig")
    sizes = Sizes(
        model=gin_config.build("ModelConfig"),
        sampler=gin_config.build("SamplerConfig"),
        loss=gin_config.build("LossConfig"),
        optimizer=gin_config.build("OptimizerConfig"),
        temperature=run.temperature,
        micro_rows=run.micro_rows,
        batch_rows=run.batch_rows,
        row_tokens=max(run.row_tokens),
    )
    compiler = Compiler(sizes, make_mesh(mesh_config, devices(topology)))
    phases: dict[str, Phase] = {}
    console = Console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("compiling", total=len(PHASES))
        for phase_name, phase in compiler.phases():
            phases[phase_name] = phase
            progress.update(task, advance=1, description=f"compiled {phase_name}")
    report.show(console, topology, phases, estimates(topology, compiler, phases))
    slots, cache = sizes.sampler.slots, compiler.programs.sizes.cache[-1]
    return report.to_json(topology, slots, cache, phases)


def estimates(
    topology: Topology, compiler: Compiler, phases: dict[str, Phase]
) -> dict[str, Estimate]:
    """Roofline of a chunk of prefill, a decode slice, a micro-batch of log-probs, an update."""
    sizes, model, chip = compiler.sizes, compiler.sizes.model, topology.chip
    sampler, longest = sizes.sampler, compiler.programs.sizes.cache[-1]
    prompt = compiler.programs.sizes.prompt[-1]
    chunk_tokens = compiler.programs.sizes.prefill_rows * prompt
    slice_tokens = sampler.slots * sampler.slice_tokens
    micro_tokens = compiler.micro_batch_rows * sizes.row_tokens
    state, weights, cache = compiler.resident()

    def of(name: str, flops: float, hbm: float) -> Estimate:
        sent = sum(phases[name].traffic.bytes.values())
        return roofline.bound(chip, topology.chips, flops, hbm, sent)

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
            roofline.update_flops(model, compiler.batch_rows * sizes.row_tokens, sizes.row_tokens),
            2 * state,
        ),
        "reshard": of("reshard", 0.0, state / 3 + weights),
    }
