"""Does it fit? Models at the paper's lengths on slices of TPUs, compiled ahead on a CPU.

    python benchmarks/plan.py [--json FILE] [--cache DIR] [--only TEXT]

Prints the table of docs/scale.md. A program takes seconds to minutes to compile; each is kept in
--cache as soon as it is measured, so that an interrupted table goes on where it was: empty it after
a change of the model, the update or the sampler.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

# Beside this script stands `sandbox.py`, which is not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)
os.environ["JAX_PLATFORMS"] = "cpu"

from azr_jax.plan.command import Planned, configured, load, parse_gin, plan
from azr_jax.plan.hlo import Traffic
from azr_jax.plan.phases import GIB, Program
from azr_jax.plan.topology import find
from benchmarks.beside import finish

PAIRS: tuple[tuple[str, str, int], ...] = (
    ("7b", "v5e-16", 32),
    ("7b", "v5e-16", 64),
    ("7b", "v4-16", 64),
    ("7b", "v5p-16", 128),
    ("3b", "v5e-8", 32),
    ("8b", "v5e-16", 16),
    ("14b", "v5e-32", 32),
    ("3b", "v4-8", 64),
    ("8b", "v4-16", 32),
    ("14b", "v4-32", 32),
    ("14b", "v5p-16", 64),
    ("3b", "v5p-8", 128),
    ("8b", "v5p-8", 64),
    ("7b", "v5p-8", 128),
    ("7b", "v6e-8", 64),
)
"""(model, slice, slots): what the paper trained, on the smallest slices of each generation."""


class Cache(dict[str, Program]):
    """Programs of one pair by name, in a file that is written anew with each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_file():
            for name, row in json.loads(path.read_text()).items():
                sent = Traffic(Counter(row.pop("counts")), Counter(row.pop("bytes")))
                super().__setitem__(name, Program(**row, traffic=sent))

    def __setitem__(self, name: str, program: Program) -> None:
        super().__setitem__(name, program)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(json.dumps({n: _row(p) for n, p in self.items()}))
        fresh.replace(self._path)
        print(f"  {name}: {program.total / GIB:.2f} GiB {program.refused}", file=sys.stderr)


def _row(program: Program) -> dict[str, Any]:
    row = {f.name: getattr(program, f.name) for f in fields(program) if f.name != "traffic"}
    return {**row, "counts": program.traffic.counts, "bytes": program.traffic.bytes}


def planned(model: str, slice_name: str, bindings: tuple[str, ...], cache: Path) -> Planned:
    """The plan of a run file of gin/runs for a slice; programs come from `cache` if they can."""
    print(f"{model} on {slice_name} {' '.join(bindings)}", file=sys.stderr, flush=True)
    parse_gin([f"runs/azr_{model}.gin"], slice_name, bindings)
    return plan(find(slice_name), *configured(), load(), known=Cache(cache))


HEADER = (
    "| model | slice | chips | HBM | prefill | decode | log-prob | update | reshard | fits | slots "
    "| a step, at least | 500 steps, chip-hours |\n|---|---|" + "--:|" * 11
)


def line(model: str, found: Planned) -> str:
    """A row of the table: GiB of a chip, minutes of a step, chip-hours of a run."""
    topology = found.topology
    cells = [model.upper(), topology.name, str(topology.chips), f"{topology.chip.hbm_gib:g}"]
    cells += [f"{phase.peak / GIB:.1f}" for phase in found.phases.values()]
    cells += ["yes" if found.fits else "no", str(found.compiler.sizes.sampler.slots)]
    cells += [f"{found.step.total / 60:.1f} min", f"{found.step.chip_hours:,.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--cache", type=Path, default=Path("runs/plans"), metavar="DIR")
    parser.add_argument("--only", default="", metavar="TEXT", help="pairs such as 7b-v5e-16")
    args = parser.parse_args()
    lines, rows = [], []
    for model, slice_name, slots in PAIRS:
        name = f"{model}-{slice_name}"
        if args.only in name:
            slots_of = (f"SamplerConfig.slots = {slots}",)
            found = planned(model, slice_name, slots_of, args.cache / f"{name}-{slots}.json")
            lines.append(line(model, found))
            rows.append(summary(model, found))
    print(HEADER, *lines, sep="\n")
    finish(args.json, {}, rows)


def summary(model: str, found: Planned) -> dict[str, Any]:
    step = {"step_s": found.step.seconds, "chip_hours": found.step.chip_hours}
    sent = {name: dict(phase.traffic.bytes) for name, phase in found.phases.items()}
    return {"model": model, **found.to_json(), **step, "bytes": sent}


if __name__ == "__main__":
    main()
