"""TPU slices: the names that users give them, their chips, and what a chip can do."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from dataclasses import dataclass
from typing import Any

import jax

from azr_jax.errors import UserError


@dataclass(frozen=True)
class Chip:
    """One chip of a generation; published peaks.

    hbm_gib: what a program may use, GiB. flops: bfloat16 peak, FLOP/s. hbm_bandwidth: bytes/s.
    ici_bandwidth: of all links together in one direction, bytes/s. dollars: list price of a
    chip-hour on demand in the US, 2025; it only ranks slices.
    """

    generation: str
    hbm_gib: float
    flops: float
    hbm_bandwidth: float
    ici_bandwidth: float
    dollars: float


CHIPS = {
    chip.generation: chip
    for chip in (
        Chip("v4", 30.75, 275e12, 1.23e12, 0.30e12, 3.22),
        Chip("v5e", 15.75, 197e12, 0.82e12, 0.20e12, 1.20),
        Chip("v5p", 95.0, 459e12, 2.77e12, 0.60e12, 4.20),
        Chip("v6e", 31.25, 918e12, 1.64e12, 0.40e12, 2.70),
    )
}

# Chips of a slice -> its shape. A v4 or v5p has a torus of three axes, a v5e or v6e of two.
_CUBES = {
    4: "2x2x1",
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
    512: "8x8x8",
    1024: "8x8x16",
}
_SQUARES = {
    1: "1x1",
    4: "2x2",
    8: "2x4",
    16: "4x4",
    32: "4x8",
    64: "8x8",
    128: "8x16",
    256: "16x16",
}
_CORES_A_CHIP = {"v4": 2, "v5p": 2, "v5e": 1, "v6e": 1}
"""What the number in a slice's name counts: cores of two-core chips, else chips."""


@dataclass(frozen=True)
class Topology:
    """A slice: `name` as users write it, `shape` in chips along each axis of the torus."""

    name: str
    chip: Chip
    chips: int
    shape: str


def names() -> list[str]:
    """Every slice that is known, by generation and size."""
    return [
        f"{generation}-{chips * cores}"
        for generation, cores in _CORES_A_CHIP.items()
        for chips in _shapes(generation)
    ]


def find(name: str) -> Topology:
    """The slice of that name: `v4-16` (8 chips), `v5e-16` or `v5litepod-16` (16), …

    Raises:
      UserError: there is no such slice; the message names those that come near.
    """
    plain = re.sub(r"^v5litepod-", "v5e-", name.strip().lower())
    if plain not in names():
        generation, _, _ = plain.partition("-")
        if generation in CHIPS:
            known = ", ".join(n for n in names() if n.startswith(f"{generation}-"))
            raise UserError(f"unknown topology {name!r}; of {generation} there are {known}")
        close = difflib.get_close_matches(plain, names(), n=1, cutoff=0.5)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(
            f"unknown topology {name!r}{meant}; there are {', '.join(CHIPS)}, as in v4-16"
        )
    generation, _, size = plain.partition("-")
    chips = int(size) // _CORES_A_CHIP[generation]
    return Topology(plain, CHIPS[generation], chips, _shapes(generation)[chips])


def generation_of(name: str) -> str:
    """The generation of a slice; a generation's name is its own.

    Raises:
      UserError: there is no such slice or generation.
    """
    return name if name in CHIPS else find(name).chip.generation


def devices(topology: Topology) -> list[Any]:
    """Devices of the slice to compile for, one a chip; they cannot run anything.

    Raises:
      UserError: libtpu, which holds the compiler, is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("azr plan needs TPU's compiler: pip install 'azr-jax[plan]'")
    # Without these libtpu asks the network what machine this is, and refuses a second process.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    extra: dict[str, Any] = {}
    if topology.chip.generation == "v4":
        extra["chip_config_name"] = "megacore"  # else two devices a chip
    if topology.chips == 1:
        extra["chips_per_host_bounds"] = (1, 1, 1)
    name = f"{topology.chip.generation}:{topology.shape}"
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **extra).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"libtpu does not know {name}: {error}") from error
    return list(found)


def _shapes(generation: str) -> dict[int, str]:
    return _SQUARES if _CORES_A_CHIP[generation] == 1 else _CUBES
