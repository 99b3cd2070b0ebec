"""TrainState: parameters, optimiser state and counters, each on its place on the mesh."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from azr_jax.model import sharding
from azr_jax.model.attention import Layout
from azr_jax.model.transformer import Params, Transformer, parameter_axes, parameter_shapes


@flax.struct.dataclass
class TrainState:
    """All that the optimiser changes. `step` counts updates tried, `skipped` those not applied."""

    params: Params
    opt_state: Any
    step: Int[Array, ""]
    skipped: Int[Array, ""]


def parameter_shardings(model: Transformer, mesh: Mesh) -> Params:
    """Where every parameter lives: a tree of shardings like the parameters."""
    axes = parameter_axes(model.config)
    shapes = parameter_shapes(model.config)
    return jax.tree.map(
        lambda letters, shape: sharding.named_sharding(shape, letters, mesh),
        axes,
        shapes,
        is_leaf=lambda x: isinstance(x, str),
    )


def abstract_params(model: Transformer, mesh: Mesh) -> Params:
    """Shapes, dtypes and shardings of the parameters."""
    return jax.tree.map(
        lambda shape, place: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place),
        parameter_shapes(model.config),
        parameter_shardings(model, mesh),
        is_leaf=lambda x: isinstance(x, tuple),
    )


def state_shardings(
    model: Transformer, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """A TrainState of shardings: moments stand where their parameters do, scalars everywhere."""
    everywhere = sharding.replicated(mesh)
    placed = parameter_shardings(model, mesh)
    shapes = jax.eval_shape(lambda: _initial(model, optimizer, seed=0))
    opt_state = optax.tree_map_params(
        optimizer,
        lambda _, place: place,
        shapes.opt_state,
        placed,
        transform_non_params=lambda _: everywhere,
    )
    places: Any = {"step": everywhere, "skipped": everywhere}
    return TrainState(params=placed, opt_state=opt_state, **places)


def abstract_state(
    model: Transformer, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Shapes, dtypes and shardings of a TrainState: what a checkpoint is restored into."""
    shapes = jax.eval_shape(lambda: _initial(model, optimizer, seed=0))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        state_shardings(model, optimizer, mesh),
    )


def init_state(
    model: Transformer, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int
) -> TrainState:
    """A fresh state. The random parameters depend on `seed` alone, not on the mesh."""
    with jax.set_mesh(mesh):
        return jax.jit(
            lambda: _initial(model, optimizer, seed),
            out_shardings=state_shardings(model, optimizer, mesh),
        )()


def state_of_params(
    model: Transformer, optimizer: optax.GradientTransformation, mesh: Mesh, params: Params
) -> TrainState:
    """A state at step 0 around given parameters (an imported checkpoint); `params` are donated."""
    shardings = state_shardings(model, optimizer, mesh)
    params = jax.tree.map(sharding.place, params, shardings.params)
    with jax.set_mesh(mesh):
        return jax.jit(
            lambda params: _around(params, optimizer), out_shardings=shardings, donate_argnums=0
        )(params)


def _initial(model: Transformer, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    tokens = jnp.zeros((1, 1), jnp.int32)
    layout = Layout.of_lengths(jnp.ones(1, jnp.int32), 1)
    params = model.init(jax.random.key(seed), tokens, layout)["params"]
    return _around(params, optimizer)


def _around(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params=params, opt_state=optimizer.init(params), step=zero, skipped=zero)
