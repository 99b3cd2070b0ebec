"""One run of 7B on 8 and on 1024 chips of a v5p with a constant batch per chip: what grows?

    python benchmarks/growth.py --svg DIR [--json FILE] [--cache DIR]

Prints the tables of docs/scale.md and draws them: memory and traffic of a chip, compiled ahead on a
CPU; what the sandbox is asked, beside what it does by the rates of docs/sandbox.md; and what the
host's scheduler takes between two slices, measured here. See benchmarks/plan.py for --cache.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

# Beside this script stands `sandbox.py`, which is not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from azr_jax.model.scheduler import Prompt, Schedule, Stops
from azr_jax.model.tokenizer import load_tokenizer
from azr_jax.plan.command import Planned
from azr_jax.plan.phases import GIB
from azr_jax.policy import EMBEDDED
from benchmarks.beside import finish
from benchmarks.plan import planned, summary

CHIPS = (8, 1024)
CHIPS_A_HOST, CORES_A_HOST = 4, 104
"""Of a v5p host: 208 virtual CPUs are 104 cores."""

RATES = {"clean": 412.0, "2 % endless loops, 1 s each": 35.0, "the same, 10 s each": 4.7}
"""Programs a second of one core (docs/sandbox.md; the last by its floor of 0.2 s of CPU)."""

COLOURS = ("#1f6fb4", "#d1495b", "#3a8f5c", "#8a5fbf", "#c98a1b")


def grown(chips: int, cache: Path) -> Planned:
    """7B on a v5p of so many chips: slots, rows and games for every four chips alike."""
    shards = chips // 4
    per_shard = {
        "SamplerConfig.slots": 64,
        "SamplerConfig.prefill_rows": 4,
        "RunConfig.batch_rows": 32,
        "PlayConfig.batch_size": 32,
    }
    bindings = tuple(f"{name} = {size * shards}" for name, size in per_shard.items())
    return planned("7b", f"v5p-{2 * chips}", bindings, cache / f"growth-{chips}.json")


def received(found: Planned, phase: str) -> float:
    """GiB that a chip receives."""
    return sum(found.phases[phase].traffic.bytes.values()) / GIB


def scheduling(rows: int, repeats: int = 5) -> float:
    """Seconds of the host between two slices of 128 steps, no row ending: the scheduler's own."""
    stops = Stops(load_tokenizer(EMBEDDED), ())
    prompts = [Prompt((8, 9, 10), samples=1, stream=(0, i)) for i in range(rows)]
    schedule = Schedule(prompts, rows=rows, new_tokens=8096, seed=0, stops=stops)
    schedule.place()
    tokens = np.full((rows, 128), 20, np.int32)
    logprobs = np.zeros((rows, 128), np.float32)
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        schedule.absorb(tokens, logprobs)
        schedule.place()
        took.append(time.perf_counter() - start)
    return median(took)


def table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = ["| " + " | ".join(titles) + " |", "|" + "--:|" * len(titles)]
    return "\n".join([*head, *("| " + " | ".join(cells) + " |" for cells in lines)])


def chart(title: str, unit: str, series: Mapping[str, Sequence[float]]) -> str:
    """Lines over the number of chips, both axes logarithmic, as SVG."""
    width, height, left, top, plot_w, plot_h = 640, 360, 64, 40, 400, 260
    values = [v for line in series.values() for v in line if v > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(chips: float) -> float:
        return left + plot_w * math.log2(chips / CHIPS[0]) / math.log2(CHIPS[-1] / CHIPS[0])

    def y(value: float) -> float:
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return top + plot_h * (1 - share)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">{title}</text>',
        f'<text x="{left + plot_w / 2}" y="{height - 14}" text-anchor="middle">chips</text>',
        f'<text x="{left - 8}" y="{top - 6}" text-anchor="end">{unit}</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{left} {at:.1f}h{plot_w}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for chips in CHIPS:
        at = top + plot_h + 18
        parts.append(f'<text x="{x(chips):.1f}" y="{at}" text-anchor="middle">{chips}</text>')
    for index, (name, line) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(f"{x(c):.1f},{y(v):.1f}" for c, v in zip(CHIPS, line, strict=True))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        at = top + 12 + 20 * index
        parts.append(f'<text x="{left + plot_w + 14}" y="{at}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--cache", type=Path, default=Path("runs/plans"), metavar="DIR")
    args = parser.parse_args()
    plans = [grown(chips, args.cache) for chips in CHIPS]
    names = list(plans[0].phases)
    chips = [str(found.topology.chips) for found in plans]

    def gib(values: Sequence[float]) -> list[str]:
        return [f"{value:.2f}" for value in values]

    peaks = {n: [f.phases[n].peak / GIB for f in plans] for n in names}
    temporary = {n: [f.phases[n].temporary / GIB for f in plans] for n in names}
    print("\nPeak of a chip, GiB\n")
    print(table(["chips", *names], list(zip(chips, *map(gib, peaks.values()), strict=True))))
    print("\nTemporaries of a chip, GiB\n")
    print(table(["chips", *names], list(zip(chips, *map(gib, temporary.values()), strict=True))))
    sent = {n: [received(f, n) for f in plans] for n in names}
    print(
        "\nReceived by a chip, GiB: a prefilled chunk, a slice of 128 steps, a micro-batch, an "
        "update, a reshard\n"
    )
    print(table(["chips", *names], list(zip(chips, *map(gib, sent.values()), strict=True))))

    host = [scheduling(found.compiler.sizes.sampler.slots) for found in plans]
    slices = [f.estimates["decode"].seconds for f in plans]
    print("\nThe scheduler of a host between two slices\n")
    lines = [
        [c, str(f.compiler.sizes.sampler.slots), f"{h * 1e3:.0f} ms", f"{s:.2f} s", f"{h / s:.0%}"]
        for c, f, h, s in zip(chips, plans, host, slices, strict=True)
    ]
    print(table(["chips", "slots", "scheduler", "a slice, at least", "share"], lines))

    print("\nThe sandbox: programs a second, asked for and done by one core in ten of the hosts\n")
    asked, done = [], {name: [] for name in RATES}
    for found in plans:
        asked.append((found.load.completions + found.load.prompts / 3) / found.step.total)
        cores = found.topology.chips / CHIPS_A_HOST * CORES_A_HOST / 10
        for name, rate in RATES.items():
            done[name].append(rate * cores)
    rates = [[f"{v:,.0f}" for v in line] for line in (asked, *done.values())]
    print(table(["chips", "asked for", *done], list(zip(chips, *rates, strict=True))))

    args.svg.mkdir(parents=True, exist_ok=True)
    charts = {
        "memory": chart("Peak of a chip", "GiB", peaks),
        "temporaries": chart("Temporaries of a chip", "GiB", temporary),
        "traffic": chart("Received by a chip", "GiB", sent),
        "sandbox": chart("Programs a second", "1/s", {"asked for": asked, **done}),
    }
    for name, text in charts.items():
        (args.svg / f"growth_{name}.svg").write_text(text)
    finish(args.json, {}, [summary("7b", found) for found in plans])


if __name__ == "__main__":
    main()
