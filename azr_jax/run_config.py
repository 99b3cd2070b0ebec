"""What a run is told: its length, its batch, what it keeps, and when it gives up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gin

from azr_jax.errors import UserError


@gin.configurable
@dataclass(frozen=True)
class RunConfig:
    """What one run does.

    init_checkpoint: "tiny" (the embedded model), a Hugging Face folder, or a run or step directory.
    seed_files: triplet files to start from; empty: the model seeds itself from the zero triplet.
    temperature: of all sampling in self-play; the loss uses the same one.
    train_propose: False leaves the proposer's completions out of the update.
    estimate_reuse: train on the difficulty samples too: they are on-policy solver samples.
    whiten: what TRR++ counts once, a token (the original's code) or a sequence (Eq. 8).
    row_tokens, micro_rows: the packed batch: lengths that a row may have, and the rows that a data
        shard computes at a time. batch_rows: the rows that a step is expected to fill, by which
        `azr plan` estimates its time. The batch always has enough for the longest completions
        (`most_rows`), so that nothing is compiled anew as they grow; empty rows cost no time.
    stall_s: seconds after which a run in which nothing moves is ended, its stacks in the log (of
        all hosts); 0: never. The longest compilation must fit.
    max_infra_share: a step in which the sandbox itself fails at more of its jobs ends the run; what
        is lost up to there is masked.
    gap_warning, max_gap: mean |log-prob of the update - log-prob of the sampler|, in nats a token,
        of a group: above the first a step warns, above the second the run ends.
    max_bad_steps: so many steps in a row without a finite update, a valid proposal, or an advantage
        that is not 0 end the run; the last good checkpoint stays. 0: never.
    save_every: steps between checkpoints. keep: so many of the newest stay, and beside them every
        step that keep_every divides (0: none). samples_every: steps between samples on disk.
    """

    run_dir: str
    total_steps: int
    init_checkpoint: str = "tiny"
    seed_files: tuple[str, ...] = ()
    seed: int = 0
    temperature: float = 1.0
    train_propose: bool = True
    estimate_reuse: bool = False
    whiten: Literal["token", "sequence"] = "token"
    row_tokens: tuple[int, ...] = (256,)
    micro_rows: int = 16
    batch_rows: int = 16
    sandbox_level: int = 2
    stall_s: float = 1800.0
    max_infra_share: float = 0.05
    gap_warning: float = 0.05
    max_gap: float = 0.5
    max_bad_steps: int = 5
    save_every: int = 10
    keep: int = 2
    keep_every: int = 0
    samples_every: int = 5

    def most_samples(self, play: Any) -> int:
        """Completions that one step of a `PlayConfig` learns from at most: all proposals valid."""
        role = len(play.task_types) * play.batch_size
        trained = (2 if self.train_propose else 1) * role
        return trained + (role * play.samples_per_task if self.estimate_reuse else 0)

    def most_rows(self, play: Any) -> int:
        """Rows of the packed batch, before they are rounded up to whole micro-batches."""
        return max(self.batch_rows, self.most_samples(play))

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise UserError(f"RunConfig.total_steps is at least 1, not {self.total_steps}")
        if not self.temperature > 0:
            raise UserError(
                f"RunConfig.temperature is {self.temperature}: self-play samples, never greedily"
            )
        least = {
            "save_every": 1,
            "keep": 1,
            "keep_every": 0,
            "samples_every": 1,
            "max_bad_steps": 0,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"RunConfig.{name} is at least {value}, not {getattr(self, name)}")
        if not self.stall_s >= 0:
            raise UserError(f"RunConfig.stall_s is at least 0, not {self.stall_s}")
        if not 0 <= self.max_infra_share <= 1:
            raise UserError(
                f"RunConfig.max_infra_share is between 0 and 1, not {self.max_infra_share}"
            )
        if self.sandbox_level not in (1, 2, 3):
            raise UserError(f"RunConfig.sandbox_level is 1, 2 or 3, not {self.sandbox_level}")
