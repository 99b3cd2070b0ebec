"""A plan as people read it, and as scripts do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from azr_jax.plan.phases import GIB, Phase
from azr_jax.plan.roofline import Estimate
from azr_jax.plan.search import Candidate
from azr_jax.plan.step import COMPLETION_SHARE, PROMPT_SHARE, Load, Step
from azr_jax.plan.topology import Topology

ADVICE = {
    "prefill": "lower SamplerConfig.prefill_rows or slots",
    "decode": "lower SamplerConfig.slots or raise MeshConfig.tensor",
    "logprob": "lower RunConfig.micro_rows or LossConfig.logprob_chunk",
    "update": "lower RunConfig.micro_rows, set ModelConfig.remat = 'full', or raise "
    "MeshConfig.tensor",
    "reshard": "raise MeshConfig.tensor: the sampler's weights are cut along it alone",
}


def fits(topology: Topology, phases: Mapping[str, Phase]) -> bool:
    return all(_fits(topology, phase) for phase in phases.values())


def _fits(topology: Topology, phase: Phase) -> bool:
    return not phase.refused and phase.peak <= topology.chip.hbm_gib * GIB


def to_json(
    topology: Topology, slots: int, cache_tokens: int, phases: Mapping[str, Phase]
) -> dict[str, Any]:
    """The JSON of `azr plan --json`; memory in GiB of one chip."""
    return {
        "topology": topology.name,
        "chips": topology.chips,
        "hbm_gib": topology.chip.hbm_gib,
        "slots": slots,
        "cache_tokens": cache_tokens,
        "phases": {
            name: {
                "peak_gib": round(phase.peak / GIB, 6),
                "temporary_gib": round(phase.temporary / GIB, 6),
                "collectives": dict(sorted(phase.traffic.counts.items())),
            }
            for name, phase in phases.items()
        },
        "fits": fits(topology, phases),
    }


def show(
    console: Console,
    topology: Topology,
    phases: Mapping[str, Phase],
    estimates: Mapping[str, Estimate],
) -> None:
    """The table of phases, what their chips send, and whether the run fits or what to change."""
    hbm = topology.chip.hbm_gib
    table = Table(title=f"{topology.name}: {topology.chips} chips of {hbm:g} GiB")
    for title in ("phase", "peak GiB", "of HBM", "temporary", "TFLOP", "at least", "bound by"):
        table.add_column(title, justify="left" if title in ("phase", "bound by") else "right")
    for name, phase in phases.items():
        estimate = estimates.get(name)
        row = [name, f"{phase.peak / GIB:.2f}", f"{phase.peak / GIB / hbm:.0%}"]
        row.append(f"{phase.temporary / GIB:.2f}")
        if estimate is None:
            row += ["", "", ""]
        else:
            row += [f"{estimate.flops / 1e12:.4g}", _seconds(estimate.seconds), estimate.bound]
        table.add_row(*row)
    console.print(table)
    for name, phase in phases.items():
        console.print(f"{name}: {_collectives(phase) or 'no collectives'}", highlight=False)


def show_step(console: Console, load: Load, step: Step) -> None:
    """The least time of a step, and the chip-hours of the run."""
    parts = ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in step.seconds.items())
    hours = step.total * load.steps / 3600
    for line in (
        f"a step: {load.completions} completions, {load.trained} of them trained on; "
        f"at least {_seconds(step.total)} ({parts})",
        f"a run of {load.steps} steps: at least {hours:.4g} h, {step.chip_hours:.4g} chip-hours",
        f"assumed: prompts of {PROMPT_SHARE:g} and completions of {COMPLETION_SHARE:g} of their "
        "limits in the mean; every peak reached, which none is: expect twice the time",
    ):
        console.print(line, highlight=False)


def show_candidates(console: Console, found: Sequence[Candidate]) -> None:
    """Slices and settings that fit by formula, the cheapest first."""
    title = "by formula, not compiled: the cheapest settings of a slice that fit"
    table = Table(title=title)
    for name in ("slice", "tensor", "slots", "peak GiB", "of HBM", "a step", "chip-hours", "USD"):
        table.add_column(name, justify="left" if name == "slice" else "right")
    for c in found:
        share = c.peak / GIB / c.topology.chip.hbm_gib
        table.add_row(
            *(c.topology.name, str(c.tensor), str(c.slots), f"{c.peak / GIB:.1f}", f"{share:.0%}"),
            *(_seconds(c.step.total), f"{c.step.chip_hours:,.0f}", f"{c.dollars:,.0f}"),
        )
    console.print(table)


def verdict(topology: Topology, phases: Mapping[str, Phase]) -> Iterable[str]:
    """One line that says that all fits, or a line for each phase that does not."""
    if fits(topology, phases):
        name, worst = max(phases.items(), key=lambda item: item[1].peak)
        yield f"fits: {worst.peak / GIB:.2f} of {topology.chip.hbm_gib:g} GiB at most ({name})"
    for name, phase in phases.items():
        if not _fits(topology, phase):
            why = f" ({phase.refused})" if phase.refused else ""
            yield (
                f"does not fit: {name} needs {phase.peak / GIB:.2f} of "
                f"{topology.chip.hbm_gib:g} GiB{why}; {ADVICE[name]}, or take a larger slice"
            )


def _collectives(phase: Phase) -> str:
    counts, sizes = phase.traffic.counts, phase.traffic.bytes
    return ", ".join(
        f"{n} {kind} ({_bytes(sizes[kind])} a chip)" for kind, n in sorted(counts.items())
    )


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
