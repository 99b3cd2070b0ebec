"""`azr plan`: from gin and the name of a slice to its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from azr_jax import config as gin_config
from azr_jax.errors import UserError
from azr_jax.model.sharding import MeshConfig, make_mesh, require_heads
from azr_jax.plan import report, search
from azr_jax.plan.phases import PHASES, Compiler, Phase, Program, Sizes
from azr_jax.plan.roofline import Estimate
from azr_jax.plan.step import Load, Step, estimates, step
from azr_jax.plan.topology import Topology, devices, find, generation_of
from azr_jax.run_config import RunConfig

RUN_ONLY = (
    *("INIT_CHECKPOINT = ''", "RUN_DIR = ''"),
    "RunConfig.run_dir = ''",
)
"""What a plan does not need to be told. Bindings of the user's come after them."""

ONE_STEP = ("TOTAL_STEPS = 1", "RunConfig.total_steps = 1")


@dataclass(frozen=True)
class Planned:
    """A run on a slice: its programs compiled, what they need, how long they take at least."""

    topology: Topology
    compiler: Compiler
    phases: dict[str, Phase]
    estimates: dict[str, Estimate]
    load: Load
    step: Step

    @property
    def fits(self) -> bool:
        return report.fits(self.topology, self.phases)

    def to_json(self) -> dict[str, Any]:
        """The JSON of `azr plan --json`."""
        sizes = self.compiler.programs.sizes
        slots, cache = self.compiler.sizes.sampler.slots, sizes.cache[-1]
        return report.to_json(self.topology, slots, cache, self.phases)


def parse_gin(files: Sequence[str], slice_name: str, bindings: Sequence[str] = ()) -> None:
    """Parses a run's gin for a plan: without what only a run needs, and with the slice's hardware
    file, unless one is among `files`.

    Raises:
      UserError: there is no such slice, or a mistake in the gin.
    """
    own = any(Path(name).parent.name == "hardware" for name in files)
    hardware = [] if own else [f"hardware/{generation_of(slice_name)}.gin"]
    try:
        gin_config.parse([*files, *hardware], [*RUN_ONLY, *bindings])
        gin_config.build("RunConfig")
    except UserError:  # a run file that leaves the number of steps open
        gin_config.parse([*files, *hardware], [*RUN_ONLY, *ONE_STEP, *bindings])


def configured() -> tuple[Sizes, MeshConfig]:
    """What the parsed gin says of a run's programs and their mesh.

    Raises:
      UserError: a value that is missing or refused, or lengths beyond the model's positions.
    """
    run: RunConfig = gin_config.build("RunConfig")
    sizes = Sizes(
        model=gin_config.build("ModelConfig"),
        sampler=gin_config.build("SamplerConfig"),
        loss=gin_config.build("LossConfig"),
        optimizer=gin_config.build("OptimizerConfig"),
        temperature=run.temperature,
        micro_rows=run.micro_rows,
        batch_rows=run.batch_rows,
        most_rows=run.most_rows(gin_config.build("PlayConfig")),
        row_tokens=max(run.row_tokens),
    )
    sizes.sampler.require_positions(sizes.model)
    return sizes, gin_config.build("MeshConfig")


def load() -> Load:
    """What the parsed gin asks of a step."""
    return Load.of(gin_config.build("PlayConfig"), gin_config.build("RunConfig"))


def plan(
    topology: Topology,
    sizes: Sizes,
    mesh_config: MeshConfig,
    load: Load,
    known: dict[str, Program] | None = None,
    compiled: Callable[[str], None] = lambda phase: None,
) -> Planned:
    """Compiles a run's programs for a slice. `known`: see `Compiler`.

    Raises:
      UserError: no compiler, a mesh that does not fill the slice or divide the heads, sizes that do
        not divide over it.
    """
    mesh = make_mesh(mesh_config, devices(topology))
    require_heads(mesh_config, mesh, sizes.model.heads, sizes.model.kv_heads)
    compiler = Compiler(sizes, mesh, known)
    phases: dict[str, Phase] = {}
    for name, phase in compiler.phases():
        phases[name] = phase
        compiled(name)
    received = {name: sum(phase.traffic.bytes.values()) for name, phase in phases.items()}
    bounds = estimates(topology, compiler.work, received)
    least = step(topology, compiler.work, bounds, load)
    return Planned(topology, compiler, phases, bounds, load, least)


def plan_command(slice_name: str) -> dict[str, Any]:
    """Plans what the parsed gin describes for a slice and prints the table; returns the JSON.

    Raises:
      UserError: there is no such slice; else as `plan` does.
    """
    topology = find(slice_name)
    return _shown(Console(), topology, *configured())


def search_command(generation: str) -> dict[str, Any]:
    """Proposes the cheapest slice and settings that fit, by formula first, then compiled.

    `generation`: only slices of it; empty: of all.

    Raises:
      UserError: there is no such generation, or nothing fits.
    """
    console = Console()
    sizes, _ = configured()
    found = search.candidates(sizes, load(), generation)
    report.show_candidates(console, found)
    for candidate in found[: search.TRIES]:
        console.print(f"trying {candidate.described}", highlight=False)
        chosen = replace(sizes, sampler=replace(sizes.sampler, slots=candidate.slots))
        mesh_config = MeshConfig(data=1, fsdp=-1, tensor=candidate.tensor)
        planned = _shown(console, candidate.topology, chosen, mesh_config)
        if planned["fits"]:
            console.print(f"proposed: {candidate.described}", highlight=False)
            return planned
    raise UserError(f"none of the {search.TRIES} cheapest candidates fits")


def _shown(
    console: Console, topology: Topology, sizes: Sizes, mesh_config: MeshConfig
) -> dict[str, Any]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("compiling", total=len(PHASES))

        def compiled(phase: str) -> None:
            progress.update(task, advance=1, description=f"compiled {phase}")

        planned = plan(topology, sizes, mesh_config, load(), compiled=compiled)
    report.show(console, topology, planned.phases, planned.estimates)
    report.show_step(console, planned.load, planned.step)
    for line in report.verdict(topology, planned.phases):
        console.print(line, highlight=False)
    return planned.to_json()
