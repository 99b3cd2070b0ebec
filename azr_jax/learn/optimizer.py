"""AdamW behind a global-norm clip, and its learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gin
import jax
import jax.numpy as jnp
import optax

from azr_jax.errors import UserError
from azr_jax.model.transformer import Params


@gin.configurable
@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW. Defaults are the original's (arXiv 2505.03335, Table 3; veRL's betas and decay).

    `warmup_steps` rise linearly to `learning_rate`; "linear" decay falls to 0 at the last step,
    from the end of the warm-up on or, if set, over the last `decay_steps`. Gradients are scaled
    down to a global norm of `clip_norm` (0: never). Weight decay spares norms and biases.
    """

    learning_rate: float = 1e-6
    warmup_steps: int = 0
    decay: Literal["constant", "linear"] = "constant"
    decay_steps: int = 0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0


def learning_rate_schedule(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Learning rate of the n-th applied step, n from 0; the first one of a warm-up is not zero."""

    def rate(count: Any) -> Any:
        warm = jnp.minimum(1.0, (count + 1) / max(1, config.warmup_steps))
        if config.decay == "constant":
            return config.learning_rate * warm
        falling = config.decay_steps or total_steps - config.warmup_steps
        left = (total_steps - count) / max(1, falling)
        return config.learning_rate * jnp.minimum(warm, jnp.clip(left, 0.0, 1.0))

    return rate


def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """AdamW behind a global-norm clip.

    Raises:
      UserError: an unknown decay.
    """
    if config.decay not in ("constant", "linear"):
        raise UserError(f"OptimizerConfig.decay must be constant or linear, not {config.decay!r}")
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    adamw = optax.adamw(
        learning_rate_schedule(config, total_steps),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decays,
    )
    return optax.chain(clip, adamw)


def decays(params: Params) -> Any:
    """Which parameters weight decay touches: all but norms and biases."""

    def named(path: tuple[Any, ...], _: Any) -> bool:
        return not str(path[-1].key).endswith(("norm", "bias"))

    return jax.tree_util.tree_map_with_path(named, params)
