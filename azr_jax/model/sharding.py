"""Mesh, logical-axis rules and named constraints: the only file with PartitionSpecs.

Arrays carry logical axis letters (see `azr_jax.model`); `ShardingRules` says which mesh axes hold
each. A mesh axis that does not divide a dimension is dropped for it: few KV heads are replicated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gin
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor")


@gin.configurable
@dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; one of them may be -1: all that remain.

    replicate_kv_heads: `tensor` need not divide the KV heads; each device then holds all of them.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    replicate_kv_heads: bool = False


@dataclass(frozen=True)
class ShardingRules:
    """Mesh axes that hold each logical axis; parameters and activations differ only in `d`."""

    batch: tuple[str, ...] = ("data", "fsdp")
    weight_model: tuple[str, ...] = ("fsdp",)
    heads: tuple[str, ...] = ("tensor",)
    kv_heads: tuple[str, ...] = ("tensor",)
    feed_forward: tuple[str, ...] = ("tensor",)
    vocabulary: tuple[str, ...] = ("tensor",)
    residual_time: tuple[str, ...] = ("tensor",)

    def mesh_axes(self, letter: str) -> tuple[str, ...]:
        """`D` is the model axis of a weight, `d` that of an activation.

        `T` is the time axis between blocks: what the backward pass keeps of every layer is cut
        over the chips that share the layer.
        """
        table = {
            "b": self.batch,
            "D": self.weight_model,
            "h": self.heads,
            "k": self.kv_heads,
            "f": self.feed_forward,
            "v": self.vocabulary,
            "T": self.residual_time,
        }
        return table.get(letter, ())


RULES = ShardingRules()
SAMPLER_RULES = ShardingRules(weight_model=())
"""Weights that every token reads are gathered once a phase, not once a token."""


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A (data, fsdp, tensor) mesh over `devices` (default: all).

    Several slices, with a slower network between them, lie along `data`, outermost.

    Raises:
      UserError: when the sizes do not multiply to the number of devices, or `data` not to slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    if sizes.count(-1) > 1 or any(s == 0 or s < -1 for s in sizes):
        raise UserError(f"MeshConfig: axis sizes must be positive, one may be -1: {sizes}")
    fixed = int(np.prod([s for s in sizes if s != -1]))
    if -1 in sizes and len(devices) % fixed == 0:
        sizes[sizes.index(-1)] = len(devices) // fixed
    if int(np.prod(sizes)) != len(devices):
        named = ", ".join(f"{a}={s}" for a, s in zip(MESH_AXES, sizes, strict=True))
        raise UserError(f"MeshConfig: {named} does not fill {len(devices)} devices")
    slices = len({getattr(d, "slice_index", 0) for d in devices})  # else there is one
    slices = slices if devices[0].platform == "tpu" else 1
    if sizes[0] % slices:
        raise UserError(
            f"MeshConfig: data={sizes[0]} is no multiple of {slices} slices: only the batch is cut "
            "over the network between them"
        )
    within = (sizes[0] // slices, *sizes[1:])
    # A torus of 8 x 8 x 16 has no axis of 4: such an axis is cut out of a longer one.
    if slices == 1:
        placed = mesh_utils.create_device_mesh(
            within, list(devices), allow_split_physical_axes=True
        )
    else:
        placed = mesh_utils.create_hybrid_device_mesh(
            within, (slices, 1, 1), devices, allow_split_physical_axes=True
        )
    return Mesh(placed, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def require_heads(config: MeshConfig, mesh: Mesh, heads: int, kv_heads: int) -> None:
    """Heads that the tensor axis can hold.

    Raises:
      UserError: heads that do not divide, or KV heads that would be replicated without a word.
    """
    tensor = mesh.shape["tensor"]
    if heads % tensor:
        raise UserError(f"MeshConfig: tensor={tensor} does not divide the model's {heads} heads")
    if kv_heads % tensor and not config.replicate_kv_heads:
        raise UserError(
            f"MeshConfig: tensor={tensor} does not divide the model's {kv_heads} KV heads: lower "
            "it, or set MeshConfig.replicate_kv_heads = True and hold all of them on every device"
        )


def partition(shape: Sequence[int], axes: str, mesh: Any, rules: ShardingRules = RULES) -> P:
    """PartitionSpec of an array of `shape` whose dimensions are the letters of `axes`.

    `mesh` is a concrete or an abstract mesh.
    """
    sizes = dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True))
    entries: list[tuple[str, ...] | None] = []
    used: set[str] = set()
    for size, letter in zip(shape, axes, strict=True):
        names: list[str] = []
        parts = 1
        for name in rules.mesh_axes(letter):
            if name in sizes and name not in used and size % (parts * sizes[name]) == 0:
                names.append(name)
                parts *= sizes[name]
        used.update(names)
        entries.append(tuple(names) or None)
    return P(*entries)


def named_sharding(
    shape: Sequence[int], axes: str, mesh: Mesh, rules: ShardingRules = RULES
) -> NamedSharding:
    return NamedSharding(mesh, partition(shape, axes, mesh, rules))


def batch_groups(mesh: Mesh, rules: ShardingRules = RULES) -> int:
    """Parts into which the mesh cuts the batch axis."""
    return math.prod(mesh.shape[name] for name in rules.batch)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def place(x: jax.Array | np.ndarray, where: NamedSharding) -> jax.Array:
    """`x`, of which every process holds the whole, spread over the mesh.

    `jax.device_put` would compare all of it with what the other processes hold.
    """
    if where.is_fully_addressable or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return jax.device_put(x, where)
    whole = np.asarray(x)
    return jax.make_array_from_callback(whole.shape, where, lambda part: whole[part])


def constrain(x: jax.Array, axes: str) -> jax.Array:
    """Pin `x` to its place on the current mesh (`jax.set_mesh`); no-op without one."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, partition(x.shape, axes, mesh))


def heads_stay_together(heads: int, kv_heads: int) -> bool:
    """Does the current mesh put every query head where its KV head is?"""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return True
    return partition((heads,), "h", mesh) == partition((kv_heads,), "k", mesh)


def per_shard(
    function: Callable[..., jax.Array], *arrays: jax.Array, axes: Sequence[str], out_axes: str
) -> jax.Array:
    """`function` of each device's part of `arrays`, on the current mesh; the result has `out_axes`.

    The result is cut as the first array is. For kernels, which the compiler cannot cut.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(*arrays)
    specs = tuple(partition(x.shape, a, mesh) for x, a in zip(arrays, axes, strict=True))
    named = dict(zip(axes[0], specs[0], strict=True))
    out = P(*(named.get(letter) for letter in out_axes))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    return mapped(*arrays)


def exchange_rows(
    into: jax.Array, chunk: jax.Array, source: jax.Array, target: jax.Array, *, axes: str
) -> jax.Array:
    """`into` with rows of `chunk` copied in; rows, the axis `b`, are spread over the batch axes.

    For each group of rows and each column of `source` and `target` [g, n]: row `source` of the
    whole chunk becomes row `target` of the group, unless `target` lies past the group's end.
    `chunk` may be shorter than `into` along the axes behind `b`. Parts of the chunk go round the
    groups, so that no device ever holds more than two of them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    names, groups = RULES.batch, source.shape[0]
    axis = axes.index("b")
    rows, own = into.shape[axis] // groups, chunk.shape[axis] // groups
    ring = [(i, (i - 1) % groups) for i in range(groups)]

    def local(into: jax.Array, chunk: jax.Array, source: jax.Array, target: jax.Array) -> jax.Array:
        me = jax.lax.axis_index(names)

        def copy(column: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            into, visiting, owner = carry
            row = source[0, column] - owner * own
            starts = [jnp.int32(0)] * into.ndim
            starts[axis] = jnp.minimum(target[0, column], rows - 1)

            def write(into: jax.Array) -> jax.Array:
                new = jax.lax.dynamic_index_in_dim(visiting, jnp.clip(row, 0, own - 1), axis)
                return jax.lax.dynamic_update_slice(into, new, starts)

            here = (row >= 0) & (row < own) & (target[0, column] < rows)
            into = jax.lax.cond(here, write, lambda into: into, into)
            return into, visiting, owner

        def visit(step: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
            into, visiting = carry
            start = (into, visiting, (me + step) % groups)
            into, _, _ = jax.lax.fori_loop(0, source.shape[1], copy, start)
            return into, jax.lax.ppermute(visiting, names, ring)

        return jax.lax.fori_loop(0, groups, visit, (into, chunk))[0]

    specs = [partition(x.shape, axes, mesh) for x in (into, chunk)]
    index = P(names, None)
    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=(*specs, index, index), out_specs=specs[0], check_vma=False
    )
    return mapped(into, chunk, source, target)
