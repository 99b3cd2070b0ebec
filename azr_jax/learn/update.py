"""One optimiser step over a packed batch: gradients summed over micro-batches, applied once.

The same step serves self-play (`make_update`) and pretraining (`make_supervised_update`); they
differ in the loss of a micro-batch and in what its sum is divided by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gin
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from azr_jax.errors import UserError
from azr_jax.learn.batching import Batch, pack
from azr_jax.learn.state import TrainState, abstract_state, state_shardings
from azr_jax.model import backend, sharding
from azr_jax.model.loss import GroupCoefficients, Tally, batch_logprobs, policy_loss
from azr_jax.model.transformer import Params, Transformer, parameter_axes

GROUP_COUNT = 6
"""Groups of the policy loss: two roles x three task types."""

PerGroup = float | tuple[float, ...]
"""One number for all groups, or one for each."""

Metrics = dict[str, Array]
MicroLoss = Callable[[Params, Batch], tuple[Float[Array, ""], Tally]]
Normaliser = Callable[[Float[Array, "m b t"]], Float[Array, ""]]


@gin.configurable
@dataclass(frozen=True)
class LossConfig:
    """The policy loss. Numbers are one for all groups or a tuple of six (see `GroupCoefficients`).

    `aggregation` "token" is the mean over all tokens of the batch; "microbatch" the mean of
    micro-batch means, as in the original's paper branch: it then depends on how rows were packed
    and cut. `logprob_chunk` is how many tokens of a data shard have logits at any one time.

    A batch is learnt from in one step, so that the ratio to the policy that sampled it is 1 but for
    rounding: the clips bound what rounding does. `kl` is refused unless it is 0, its value in
    configurations of earlier versions: the gradient of a KL to the policy that sampled is then 0.
    """

    policy: PerGroup = 1.0
    clip_low: PerGroup = 0.2
    clip_high: PerGroup = 0.2
    dual_clip: PerGroup = 0.0
    entropy: PerGroup = 0.0
    kl: PerGroup = 0.0
    aggregation: Literal["token", "microbatch"] = "token"
    logprob_chunk: int = 1024

    def __post_init__(self) -> None:
        if np.any(self.kl):
            raise UserError(
                f"LossConfig.kl = {self.kl} would change nothing: with one step a batch, a KL to "
                "the policy that sampled has no gradient; leave it at 0.0 (LossConfig.entropy does "
                "act)"
            )

    def coefficients(self) -> GroupCoefficients:
        """The six-vectors.

        Raises:
          UserError: a tuple that has not one number for each group.
        """

        def vector(name: str) -> Any:
            value = getattr(self, name)
            numbers = value if isinstance(value, (tuple, list)) else (value,) * GROUP_COUNT
            if len(numbers) != GROUP_COUNT:
                raise UserError(
                    f"LossConfig.{name} needs 1 or {GROUP_COUNT} numbers, not {len(numbers)}"
                )
            return np.asarray(numbers, np.float32)

        names = ("policy", "clip_low", "clip_high", "dual_clip", "entropy")
        return GroupCoefficients(**{name: vector(name) for name in names})


def token_normaliser(mask: Float[Array, "m b t"]) -> Float[Array, ""]:
    """Total weight of the batch."""
    return mask.sum()


def microbatch_normaliser(mask: Float[Array, "m b t"]) -> Float[Array, ""]:
    """Number of micro-batches that have a token."""
    return (mask.sum(axis=(1, 2)) > 0).sum().astype(jnp.float32)


def policy_micro_loss(
    model: Transformer, config: LossConfig, *, temperature: float, valid_ids: int, chunk: int
) -> MicroLoss:
    """The policy loss of a micro-batch, at the sampler's `temperature`; logits live in chunks."""
    coefficients = config.coefficients()
    wants_entropy = bool(np.any(coefficients.entropy))

    def loss(params: Params, batch: Batch) -> tuple[Array, Tally]:
        logp, entropy = _logprobs(model, params, batch, temperature, valid_ids, chunk)
        total, tally = policy_loss(
            logp,
            batch.behaviour_logp,
            batch.advantage,
            batch.mask,
            batch.group,
            entropy if wants_entropy else jax.lax.stop_gradient(entropy),
            coefficients,
        )
        if config.aggregation == "microbatch":
            total = total / jnp.maximum(batch.mask.sum(), 1e-30)
        return total, tally

    return loss


def supervised_micro_loss(model: Transformer, *, valid_ids: int, chunk: int) -> MicroLoss:
    """Negative log-likelihood in nats, weighted by the mask."""

    def loss(params: Params, batch: Batch) -> tuple[Array, Tally]:
        logp, entropy = _logprobs(model, params, batch, 1.0, valid_ids, chunk)
        nll = -(batch.mask * jnp.where(batch.mask > 0, logp, 0.0)).sum()
        seen = jax.lax.stop_gradient(entropy)
        sums = {"tokens": batch.mask.sum(), "entropy": (batch.mask * seen).sum()}
        return nll, Tally(sums=sums, maxima={})

    return loss


def accumulate(
    loss: MicroLoss, normaliser: Normaliser, params: Params, batch: Batch, axes: Params
) -> tuple[Float[Array, ""], Params, Tally]:
    """Loss and float32 gradients of a batch [m, b, t], one micro-batch [b, t] at a time.

    Trailing micro-batches without a token are not computed: a batch may be padded with empty rows
    to keep its shape static, at no cost. `axes` pins the sums to where the parameters are.
    """

    def pinned(tree: Params) -> Params:
        return jax.tree.map(lambda letters, x: sharding.constrain(x, letters), axes, tree)

    def micro_batch(index: Array) -> Batch:
        piece: Batch = jax.tree.map(
            lambda x: sharding.constrain(jax.lax.dynamic_index_in_dim(x, index, 0, False), "bt"),
            batch,
        )
        return piece

    def add(index: Array, carry: tuple[Array, Params, Tally]) -> tuple[Array, Params, Tally]:
        total, gradients, tally = carry
        (value, new), g = jax.value_and_grad(loss, has_aux=True)(params, micro_batch(index))
        gradients = pinned(jax.tree.map(lambda a, b: a + b.astype(jnp.float32), gradients, g))
        return total + value, gradients, tally.merge(new)

    live = batch.mask.sum(axis=(1, 2)) > 0
    used = jnp.max(jnp.where(live, jnp.arange(live.shape[0]) + 1, 0))
    _, tallied = jax.eval_shape(loss, params, micro_batch(jnp.zeros((), jnp.int32)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tallied)
    start = pinned(jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params))
    carry = (jnp.zeros((), jnp.float32), start, zeros)
    total, gradients, tally = jax.lax.fori_loop(0, used, add, carry)
    divisor = normaliser(batch.mask)
    divisor = jnp.where(divisor > 0, divisor, 1.0)
    return total / divisor, jax.tree.map(lambda g: g / divisor, gradients), tally


class Update:
    """A compiled optimiser step: `state, metrics = update(state, batch)`; `state` is donated.

    Rows of a batch come in multiples of `row_multiple` (`pack(..., multiple=...)`). Every
    kind of batch (shape and mask) compiles once, ahead by `compile` or when it is first met.

    A step whose loss or gradient is not finite, or whose batch has no token, leaves parameters and
    optimiser as they were: `state.skipped` and the metric `skipped` count it.
    """

    def __init__(
        self,
        model: Transformer,
        optimizer: optax.GradientTransformation,
        mesh: Mesh,
        loss: MicroLoss,
        normaliser: Normaliser,
        micro_rows: int,
    ) -> None:
        self.mesh = mesh
        self.row_multiple = micro_rows * data_shards(mesh)
        self._abstract_state = abstract_state(model, optimizer, mesh)
        axes = parameter_axes(model.config)

        def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            value, gradients, tally = accumulate(loss, normaliser, state.params, batch, axes)
            norm = optax.tree.norm(gradients)
            apply = jnp.isfinite(value) & jnp.isfinite(norm) & (batch.mask.sum() > 0)
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(apply, new, old),
                (params, opt_state),
                (state.params, state.opt_state),
            )
            skipped = 1 - apply.astype(jnp.int32)
            after = TrainState(
                params=params,
                opt_state=opt_state,
                step=state.step + 1,
                skipped=state.skipped + skipped,
            )
            metrics = {**tally.sums, **tally.maxima}
            metrics |= {"loss": value, "grad_norm": norm, "skipped": skipped}
            return after, metrics

        shardings, everywhere = state_shardings(model, optimizer, mesh), sharding.replicated(mesh)
        self._step: Any = jax.jit(step, donate_argnums=0, out_shardings=(shardings, everywhere))
        self._compiled: dict[Any, Any] = {}

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step; metrics are device arrays, sums not yet divided by `tokens` (see `summary`)."""
        shape, place = self._cut(*batch.shape)
        cut = jax.tree.map(lambda x: sharding.place(x.reshape(shape), place), batch)
        step = self._compiled_for(cut)
        with jax.set_mesh(self.mesh):
            return step(state, cut)

    @property
    def compiled(self) -> int:
        """Kinds of batches compiled for so far."""
        return len(self._compiled)

    def compile(self, rows: int, row_tokens: int) -> None:
        """Compiles ahead for batches [rows, row_tokens] as self-play packs them on this backend."""
        self._compiled_for(abstract_batch(*self._cut(rows, row_tokens)))

    def lower(self, rows: int, row_tokens: int) -> Any:
        """The same, lowered only: to compile it for other chips."""
        return self._lower(abstract_batch(*self._cut(rows, row_tokens)))

    def _compiled_for(self, batch: Batch) -> Any:
        kind = batch.tokens.shape, batch.layout.mask
        if kind not in self._compiled:
            self._compiled[kind] = self._lower(batch).compile()
        return self._compiled[kind]

    def _lower(self, batch: Batch) -> Any:
        with jax.set_mesh(self.mesh):
            return self._step.lower(self._abstract_state, batch)

    def _cut(self, rows: int, time: int) -> tuple[tuple[int, int, int], Any]:
        """Shape [micro-batch, row, time] of a batch, and its sharding: rows over data shards."""
        if rows % self.row_multiple:
            raise ValueError(
                f"a batch of {rows} rows does not cut into micro-batches of {self.row_multiple}: "
                "pack with multiple=update.row_multiple"
            )
        shape = (rows // self.row_multiple, self.row_multiple, time)
        return shape, sharding.named_sharding(shape, "mbt", self.mesh)


def make_update(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    loss_config: LossConfig,
    mesh: Mesh,
    *,
    temperature: float,
    valid_ids: int,
    micro_rows: int,
) -> Update:
    """The policy update. `micro_rows` are the rows that a data shard computes at a time.

    Metrics are those of `policy_loss` (per-group vectors), `loss`, `grad_norm` (before clipping)
    and `skipped`; `gap` and `gap_max` compare the sampler's log-probs with the recomputed ones.

    Raises:
      ValueError: a temperature or an aggregation that the loss does not know.
    """
    if not temperature > 0:
        raise ValueError(f"the policy loss needs a sampling temperature > 0, not {temperature}")
    if loss_config.aggregation not in ("token", "microbatch"):
        raise UserError(
            f"LossConfig.aggregation must be token or microbatch, not {loss_config.aggregation!r}"
        )
    by_token = loss_config.aggregation == "token"
    chunk = loss_config.logprob_chunk * data_shards(mesh)
    loss = policy_micro_loss(
        model, loss_config, temperature=temperature, valid_ids=valid_ids, chunk=chunk
    )
    normaliser = token_normaliser if by_token else microbatch_normaliser
    return Update(model, optimizer, mesh, loss, normaliser, micro_rows)


def make_supervised_update(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    valid_ids: int,
    micro_rows: int,
    logprob_chunk: int = 1024,
) -> Update:
    """The pretraining update: mean negative log-likelihood over the mask's weight."""
    chunk = logprob_chunk * data_shards(mesh)
    loss = supervised_micro_loss(model, valid_ids=valid_ids, chunk=chunk)
    return Update(model, optimizer, mesh, loss, token_normaliser, micro_rows)


def abstract_batch(shape: tuple[int, ...], place: Any) -> Batch:
    """Shapes and dtypes of a batch as this backend packs it, with `place` as their sharding."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(shape, x.dtype, sharding=place),
        pack((), 1, share_prompts=backend.shares_prompts()),
    )


def data_shards(mesh: Mesh) -> int:
    """Over how many shards of the mesh the rows of a batch are spread."""
    sizes = dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True))
    return int(np.prod([sizes[axis] for axis in sharding.RULES.mesh_axes("b")]))


def summary(metrics: Metrics) -> dict[str, np.ndarray]:
    """Metrics on the host; sums over tokens become means, of groups without a token NaN."""
    host = {name: np.asarray(value) for name, value in jax.device_get(metrics).items()}
    tokens = host["tokens"]
    whole = {"tokens", "loss", "grad_norm", "skipped"}
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            name: value if name in whole or name.endswith("_max") else value / tokens
            for name, value in host.items()
        }


def _logprobs(
    model: Transformer,
    params: Params,
    batch: Batch,
    temperature: float,
    valid_ids: int,
    chunk: int,
) -> tuple[Float[Array, "b t"], Float[Array, "b t"]]:
    variables = {"params": {**params, **_whole_tables(params, model.config.dtype)}}
    hidden: Any = model.apply(variables, batch.tokens, batch.layout)

    def unembed(hidden: Array) -> Array:
        logits: Any = model.apply(variables, hidden, method="unembed")
        return logits

    return batch_logprobs(
        hidden,
        batch.targets,
        unembed,
        temperature=temperature,
        valid_ids=valid_ids,
        chunk=chunk,
    )


def _whole_tables(params: Params, dtype: str) -> Params:
    """The tables of the vocabulary, each whole along d on every chip.

    They are gathered once, not for every chunk of the loss; and a table cut along d would be read
    for the rows of all data shards. Their gradients add up in float32.
    """
    tables = {name: params[name] for name in ("embedding", "unembedding") if name in params}
    for name, table in tables.items():
        tables[name] = sharding.constrain(table.astype(dtype), "vd").astype(table.dtype)
    return tables
