"""Memory and collectives of a small model's programs are pinned: where a constraint on activations
is lost, a program still computes the right thing, and needs more of both.

Which constraints the pins notice is told by `MATTERS` (tried by `make soak`). Any other one the
compiler derives from its neighbours: without it the program is the same.

The same programs tell in which precision scores and logits leave the matrix unit.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import pytest

from azr_jax.learn import update
from azr_jax.model import backend, loss, programs, sharding, transformer
from azr_jax.plan.command import configured, parse_gin
from azr_jax.plan.phases import Compiler, Program
from azr_jax.plan.topology import devices, find
from tests.plan.small import flags, needs_compiler

PINNED: dict[str, tuple[float, dict[str, int]]] = {
    "prefill": (2.43, {"all-gather": 2, "all-reduce": 3}),
    "insert": (8.02, {"collective-permute": 2}),
    "decode": (24.59, {"all-gather": 3, "all-reduce": 4}),
    "logprob": (5.04, {"all-gather": 12, "all-reduce": 7}),
    "update": (17.76, {"all-gather": 27, "all-reduce": 19, "collective-permute": 1}),
    "prepare": (3.5, {"all-gather": 9}),
}
"""Program -> temporary MiB on a chip of a v5e-8, and its collectives, by libtpu 0.0.42."""

by_the_pinned = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is not None and not version("libtpu").startswith("0.0.42."),
    reason="the pins are of libtpu 0.0.42, which Python 3.11 has",
)

MATTERS = {
    "residuals along time": {("_embed", "bTd"), ("block", "bTd")},
    "inputs of a block": {("block", "btd")},
    "chunks of the loss": {("batch_logprobs", "btd")},
    "tables": {("_whole_tables", "vd")},
    "logits while sampling": {("advance", "b.")},
    "the table while sampling": {("advance", "bv")},
}
"""The constraints, as (function, axes), without which a program is another one."""


def compiler(folder: Path, name: str, *bindings: str) -> Compiler:
    parse_gin([flags(folder)[1]], name, bindings)
    sizes, mesh_config = configured()
    return Compiler(sizes, sharding.make_mesh(mesh_config, devices(find(name))))


def differs(program: Program, pinned: tuple[float, dict[str, int]]) -> bool:
    memory, collectives = pinned
    near = program.temporary / 2**20 == pytest.approx(memory, rel=0.02, abs=0.02)
    return not near or dict(program.traffic.counts) != collectives


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return compiler(tmp_path_factory.mktemp("plan"), "v5e-8")


@needs_compiler
@by_the_pinned
@pytest.mark.parametrize("name", PINNED)
def test_memory_and_collectives_stay(small: Compiler, name: str) -> None:
    program, (memory, collectives) = small.program(name), PINNED[name]
    assert dict(program.traffic.counts) == collectives
    assert program.temporary / 2**20 == pytest.approx(memory, rel=0.02, abs=0.02)


@needs_compiler
def test_memory_of_a_chip_does_not_grow_with_the_slice(small: Compiler, tmp_path: Path) -> None:
    """At a constant batch per chip, from 8 chips to 256."""
    many = ("RunConfig.batch_rows = 128", "SamplerConfig.slots = 256")
    large = compiler(tmp_path, "v5e-256", *many, "SamplerConfig.prefill_rows = 64")
    for name in ("prefill", "insert", "decode", "logprob", "update"):
        before, after = small.program(name).temporary, large.program(name).temporary
        assert after <= 1.1 * before, name


def products(compiler: Compiler, name: str) -> dict[str, set[str]]:
    """Where a product of a program comes from -> the types of its results on the chip."""
    with backend.compiling_for("tpu"):
        compile_it, _ = compiler._compilation(name)
        text = compile_it().as_text()
    found: dict[str, set[str]] = {}
    product = r"= (\w+)\[[\d,]*\]\S* (?:convolution|dot)\(.*op_name=\"([^\"]*)\""
    for kind, origin in re.findall(product, text):
        found.setdefault(origin, set()).add(kind)
    return found


@needs_compiler
@pytest.mark.parametrize(
    ("name", "origins"),
    [("decode", ("Transformer.unembed", "bkge,bkse->bkgs")), ("logprob", ("Transformer.unembed",))],
)
def test_scores_and_logits_are_not_rounded(
    small: Compiler, name: str, origins: tuple[str, ...]
) -> None:
    """Sampler and update round alike: not at all. (The update's scores are the splash kernel's.)"""
    found = products(small, name)
    for origin in origins:
        kinds = [kinds for place, kinds in found.items() if origin in place]
        assert kinds == [{"f32"}], (origin, found)


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[str, str]]]:
    """Constraints put in here, as (function, axes), do nothing."""
    gone: set[tuple[str, str]] = set()
    real = sharding.constrain

    def constrain(x: jax.Array, axes: str) -> jax.Array:
        return x if (sys._getframe(1).f_code.co_name, axes) in gone else real(x, axes)

    modules: tuple[Any, ...] = (transformer, loss, programs, sharding)
    for module in modules:
        monkeypatch.setattr(module, "constrain", constrain)
    assert update.sharding is sharding
    yield gone
    jax.clear_caches()


@needs_compiler
@by_the_pinned
@pytest.mark.soak
@pytest.mark.parametrize("which", MATTERS)
def test_a_lost_constraint_is_noticed(
    dropped: set[tuple[str, str]], tmp_path: Path, which: str
) -> None:
    dropped |= MATTERS[which]
    jax.clear_caches()
    mutant = compiler(tmp_path, "v5e-8")
    assert any(differs(mutant.program(name), PINNED[name]) for name in PINNED)
