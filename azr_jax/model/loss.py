"""Chunked log-probs and entropy, and the role-conditioned policy loss."""

from __future__ import annotations

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from azr_jax.model.sharding import constrain

MASKED = -1e30
MAX_LOG_RATIO = 20.0


def mask_vocabulary(logits: Float[Array, "*b v"], valid_ids: int) -> Float[Array, "*b v"]:
    """Ids from `valid_ids` on (padding of the embedding) get no probability."""
    if valid_ids >= logits.shape[-1]:
        return logits
    return jnp.where(jnp.arange(logits.shape[-1]) < valid_ids, logits, MASKED)


def token_logprobs(
    hidden: Float[Array, "n d"],
    targets: Int[Array, "n"],
    unembed: Callable[[Array], Array],
    *,
    temperature: float,
    valid_ids: int,
    chunk: int = 1024,
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Log-probability of each target, and entropy in nats, of softmax(logits / temperature).

    `unembed` maps [m, d] to float32 logits [m, v]. Logits exist for `chunk` tokens at a time, and
    are recomputed in the backward pass: memory does not grow with vocabulary x sequence.
    """

    def piece(hidden: Array, targets: Array) -> tuple[Array, Array]:
        logits = mask_vocabulary(unembed(hidden), valid_ids) / temperature
        top = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
        shifted = logits - top
        exp = jnp.exp(shifted)
        total = exp.sum(axis=-1)
        chosen = jnp.take_along_axis(shifted, targets[:, None], axis=-1)[:, 0]
        log_total = jnp.log(total)
        entropy = log_total - (exp * jnp.maximum(shifted, MASKED / 2)).sum(axis=-1) / total
        return chosen - log_total, entropy

    n = hidden.shape[0]
    if n <= chunk:
        return piece(hidden, targets)
    padding = -n % chunk
    hidden = jnp.pad(hidden, ((0, padding), (0, 0))).reshape(-1, chunk, hidden.shape[1])
    targets = jnp.pad(targets, (0, padding)).reshape(-1, chunk)
    logp, entropy = jax.lax.map(jax.checkpoint(lambda args: piece(*args)), (hidden, targets))
    return logp.reshape(-1)[:n], entropy.reshape(-1)[:n]


def batch_logprobs(
    hidden: Float[Array, "b t d"],
    targets: Int[Array, "b t"],
    unembed: Callable[[Array], Array],
    *,
    temperature: float,
    valid_ids: int,
    chunk: int = 1024,
) -> tuple[Float[Array, "b t"], Float[Array, "b t"]]:
    """`token_logprobs` of a batch, cut along time so that every chunk spans all data shards.

    `chunk` is in tokens of the whole batch; a chunk is at least one time step.
    """
    b, t, d = hidden.shape
    steps = min(t, max(1, chunk // b))
    pieces = -(-t // steps)
    padding = pieces * steps - t

    def piece(args: tuple[Array, Array]) -> tuple[Array, Array]:
        hidden, targets = constrain(args[0], "btd"), constrain(args[1], "bt")
        logp, entropy = token_logprobs(
            hidden.reshape(-1, d),
            targets.reshape(-1),
            unembed,
            temperature=temperature,
            valid_ids=valid_ids,
            chunk=b * steps,
        )
        return logp.reshape(b, steps), entropy.reshape(b, steps)

    if pieces == 1:
        return piece((hidden, targets))
    hidden = constrain(jnp.pad(hidden, ((0, 0), (0, padding), (0, 0))), "btd")
    targets = jnp.pad(targets, ((0, 0), (0, padding)))
    cut = (
        hidden.reshape(b, pieces, steps, d).swapaxes(0, 1),
        targets.reshape(b, pieces, steps).swapaxes(0, 1),
    )
    logp, entropy = jax.lax.map(jax.checkpoint(piece), cut)
    joined = (x.swapaxes(0, 1).reshape(b, pieces * steps)[:, :t] for x in (logp, entropy))
    return next(joined), next(joined)


@flax.struct.dataclass
class GroupCoefficients:
    """Coefficients of the policy loss, one entry a group (role x task type).

    `policy` scales the clipped surrogate; the ratio is clipped to [1 - clip_low, 1 + clip_high];
    `dual_clip` bounds the loss of negative advantages at that multiple (0: off); `entropy` rewards
    entropy, per nat.
    """

    policy: Float[Array, "g"]
    clip_low: Float[Array, "g"]
    clip_high: Float[Array, "g"]
    dual_clip: Float[Array, "g"]
    entropy: Float[Array, "g"]


@flax.struct.dataclass
class Tally:
    """Metrics of a micro-batch: `sums` add up over micro-batches, of `maxima` the largest stays."""

    sums: dict[str, Array]
    maxima: dict[str, Array]

    def merge(self, other: Tally) -> Tally:
        return Tally(
            sums=jax.tree.map(jnp.add, self.sums, other.sums),
            maxima=jax.tree.map(jnp.maximum, self.maxima, other.maxima),
        )


def policy_loss(
    logp: Float[Array, "*n"],
    behaviour_logp: Float[Array, "*n"],
    advantage: Float[Array, "*n"],
    mask: Float[Array, "*n"],
    group: Int[Array, "*n"],
    entropy: Float[Array, "*n"],
    coefficients: GroupCoefficients,
) -> tuple[Float[Array, ""], Tally]:
    """The role-conditioned policy loss, summed over tokens (weights: `mask`).

    Per token, with ratio r = exp(logp - behaviour_logp), the log-ratio clamped to +-20:
    policy * max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)) - entropy * H.
    PPO's clipped surrogate: arXiv 2505.03335, section 3.3 and Table 3; dual clip: arXiv
    1912.09729, eq. 5.

    Sums, not means: divide by the whole batch's mask and the result does not depend on how it was
    cut into micro-batches. What stands under a zero mask has no influence, finite or not.

    Returns:
      The loss sum, and per group, as vectors: the sums `tokens`, `policy_loss`, `entropy`,
      `clip_fraction` (tokens whose gradient the clip cut off), `kl` (k3 = 1/r - 1 + log r,
      never negative: KL(policy || behaviour), were the tokens the policy's own), `gap` (|logp -
      behaviour_logp|), and the maxima `ratio_max`, `gap_max`.
    """
    live = mask > 0
    gap = jnp.where(live, logp - behaviour_logp, 0.0)
    advantage = jnp.where(live, advantage, 0.0)
    entropy = jnp.where(live, entropy, 0.0)
    own: GroupCoefficients = jax.tree.map(lambda vector: jnp.asarray(vector)[group], coefficients)

    log_ratio = jnp.clip(gap, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = jnp.exp(log_ratio)
    free = -advantage * ratio
    clipped = -advantage * jnp.clip(ratio, 1.0 - own.clip_low, 1.0 + own.clip_high)
    surrogate = jnp.maximum(free, clipped)
    bounded = (own.dual_clip > 0) & (advantage < 0)
    surrogate = jnp.where(bounded, jnp.minimum(surrogate, -advantage * own.dual_clip), surrogate)
    k3 = jnp.exp(-log_ratio) - 1.0 + log_ratio
    loss = own.policy * surrogate - own.entropy * entropy

    groups = coefficients.policy.shape[0]
    members = (group[..., None] == jnp.arange(groups)) & live[..., None]
    over_tokens = tuple(range(logp.ndim))

    def total(x: Array) -> Array:
        # Not a matmul: an accelerator would round its operands to bfloat16.
        return jnp.where(members, (mask * x)[..., None], 0.0).sum(axis=over_tokens)

    def largest(x: Array) -> Array:
        return jnp.where(members, x[..., None], 0.0).max(axis=over_tokens)

    tally = Tally(
        sums={
            "tokens": total(jnp.ones_like(logp)),
            "policy_loss": total(surrogate),
            "entropy": total(entropy),
            "clip_fraction": total((clipped > free).astype(jnp.float32)),
            "kl": total(k3),
            "gap": total(jnp.abs(gap)),
        },
        maxima={"ratio_max": largest(ratio), "gap_max": largest(jnp.abs(gap))},
    )
    return (mask * loss).sum(), jax.lax.stop_gradient(tally)
