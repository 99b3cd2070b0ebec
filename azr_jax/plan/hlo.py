"""What a compiled program sends between chips, read from its text."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "s4": 1, "u4": 1, "bf16": 2, "f16": 2, "f64": 8}  # else by the digits
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{\s*$")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_METADATA = re.compile(r"\bmetadata=\{[^}]*\}")
_SHAPE = re.compile(r"\b(pred|bf16|[suf]\d+)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_LOOP = re.compile(r"\bcondition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r"%?([\w.\-]+) = s32\[\]\S* constant\((\d+)\)")
_BELOW = re.compile(r"ROOT .* compare\([^,]*, (?:s32\[\]\S* )?%?([\w.\-]+)\), direction=LT")


@dataclass
class Traffic:
    """Collectives of a program: `counts` of them, `bytes` of results as often as they run."""

    counts: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.counts + other.counts, self.bytes + other.bytes)


@dataclass
class _Computation:
    collectives: list[tuple[str, str, int]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    loops: list[tuple[str, str, int]] = field(default_factory=list)  # condition, body, trips or 0
    constants: dict[str, int] = field(default_factory=dict)
    below: str = ""
    """What the root compares with, in the condition of a loop that counts up."""


def traffic(text: str, unknown_trips: int = 1) -> Traffic:
    """Collectives in the text of an HLO module.

    Bytes are those of a collective's result on one chip, times the trips of the loops around it;
    a loop that does not count up to a constant has `unknown_trips`. A collective that runs beside
    arithmetic is written several times, with one channel and one origin, and counts once.
    """
    computations, entry = _parse(text)
    times: Counter[str] = Counter()

    def trips_of(condition: str) -> int:
        found = computations.get(condition, _Computation())
        return found.constants.get(found.below, 0)

    def visit(name: str, trips: int) -> None:
        times[name] += trips
        for called in computations[name].calls:
            if called in computations:
                visit(called, trips)
        for condition, body, known in computations[name].loops:
            if body in computations:
                visit(body, trips * (known or trips_of(condition) or unknown_trips))

    visit(entry, 1)
    sizes: dict[tuple[str, str], int] = {}
    for name, computation in computations.items():
        for kind, channel, size in computation.collectives:
            key = (kind, channel)
            sizes[key] = max(sizes.get(key, 0), size * times[name])
    total = Traffic()
    for (kind, _), size in sizes.items():
        total.counts[kind] += 1
        total.bytes[kind] += size
    return total


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry, current = "", _Computation()
    for number, line in enumerate(text.splitlines()):
        if not line.startswith((" ", "}")) and (found := _COMPUTATION.match(line)):
            current = computations.setdefault(found[1], _Computation())
            entry = found[1] if line.startswith("ENTRY") else entry
            continue
        if collective := _COLLECTIVE.search(line):
            channel, origin = _CHANNEL.search(line), _METADATA.search(line)
            size = _result_bytes(collective[1], bool(collective[3]))
            key = f"{channel[1]} {origin[0] if origin else ''}" if channel else f"line {number}"
            current.collectives.append((collective[2], key, size))
        current.calls += _CALLED.findall(line)
        if loop := _LOOP.search(line):
            trips = _TRIPS.search(line)
            current.loops.append((loop[1], loop[2], int(trips[1]) if trips else 0))
        if constant := _CONSTANT.search(line):
            current.constants[constant[1]] = int(constant[2])
        if below := _BELOW.search(line):
            current.below = below[1]
    return computations, entry


def _result_bytes(shapes: str, started: bool) -> int:
    """Bytes of a result; the tuple of a started one holds its operands, too, and counts half."""
    sizes = [
        math.prod(int(n) for n in dims.split(",") if n)
        * _BYTES.get(dtype, int(re.sub(r"\D", "", dtype) or 8) // 8)
        for dtype, dims in _SHAPE.findall(shapes)
    ]
    if started and len(sizes) > 1:
        return max(sizes)
    return sum(sizes)
