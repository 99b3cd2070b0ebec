"""Names of slices: what users write, what is compiled for."""

from __future__ import annotations

import importlib.util

import pytest
from jax.experimental import topologies

from azr_jax.errors import UserError
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.plan import topology
from tests.plan.small import needs_compiler


@pytest.mark.parametrize(
    ("name", "generation", "chips", "shape"),
    [
        ("v4-16", "v4", 8, "2x2x2"),
        ("v4-32", "v4", 16, "2x2x4"),
        ("v5litepod-16", "v5e", 16, "4x4"),
        ("v5e-16", "v5e", 16, "4x4"),
        ("v5e-1", "v5e", 1, "1x1"),
        ("v5p-16", "v5p", 8, "2x2x2"),
        ("v5p-2048", "v5p", 1024, "8x8x16"),
        ("v6e-16", "v6e", 16, "4x4"),
    ],
)
def test_names_of_slices(name: str, generation: str, chips: int, shape: str) -> None:
    found = topology.find(name)
    assert (found.chip.generation, found.chips, found.shape) == (generation, chips, shape)


def test_both_names_of_v5e_are_one_slice() -> None:
    assert topology.find("v5litepod-64") == topology.find("V5E-64")


@pytest.mark.parametrize("name", ["", "v5e", "v5e-17", "v4-4", "v5litepod-", "h100-8", "v3-8"])
def test_unknown_slices_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match="unknown topology") as caught:
        topology.find(name)
    assert "\n" not in str(caught.value)


def test_the_message_names_slices_of_the_generation() -> None:
    with pytest.raises(UserError, match=r"v5e-16, v5e-32"):
        topology.find("v5e-24")


@needs_compiler
@pytest.mark.parametrize("name", topology.names())
def test_the_compiler_knows_every_slice(name: str) -> None:
    found = topology.find(name)
    assert len(topology.devices(found)) == found.chips


@needs_compiler
@pytest.mark.parametrize("name", ["v5p-2048", "v5p-128", "v4-16", "v5e-256"])
@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_a_mesh_stands_on_every_torus(name: str, tensor: int) -> None:
    mesh = make_mesh(MeshConfig(1, -1, tensor), topology.devices(topology.find(name)))
    assert mesh.shape["tensor"] == tensor


def test_without_the_compiler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"azr-jax\[plan\]"):
        topology.devices(topology.find("v5e-16"))


@needs_compiler
def test_only_the_batch_is_cut_between_slices() -> None:
    topology.devices(topology.find("v5e-8"))  # leaves the compiler set up
    two = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4", num_slices=2)
    mesh = make_mesh(MeshConfig(data=4, fsdp=2, tensor=2), two.devices)
    slices = [{device.slice_index for device in part.ravel()} for part in mesh.devices]
    assert slices == [{0}, {0}, {1}, {1}]
    with pytest.raises(UserError, match="data=1 is no multiple of 2 slices"):
        make_mesh(MeshConfig(data=1, fsdp=4, tensor=4), two.devices)
