"""One run: its configuration, its parts put together, and what it keeps on disk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import gin
import jax
import numpy as np
from rich.console import Console

from azr_jax import observe
from azr_jax.errors import UserError
from azr_jax.evals import heldout
from azr_jax.evals.heldout import EvalConfig, Measured
from azr_jax.learn.batching import Batch, Sample, pack
from azr_jax.learn.checkpoint import Checkpoints
from azr_jax.learn.state import TrainState, abstract_state, state_of_params
from azr_jax.learn.update import Update, summary
from azr_jax.model.sampler import Completion, Prompt, Sampler
from azr_jax.observe import Rollout
from azr_jax.policy import Policy
from azr_jax.report.metrics import SegmentWriter, read_rows
from azr_jax.report.progress import Progress
from azr_jax.report.summary import Summary, make_summary, read_summary, write_summary
from azr_jax.selfplay import seeds
from azr_jax.selfplay.play import (
    Answer,
    Pending,
    Proposal,
    Request,
    Scored,
    SelfPlay,
    SelfPlayState,
)

PURPOSES = ("propose", "solve", "estimate", "seed", "evaluate")
"""Their order keys the randomness of samples: append only."""


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
        shard computes at a time. batch_rows: at least so many rows, so that the shape is static.
    save_every: steps between checkpoints; keep: how many stay. samples_every: steps between
        samples on disk.
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
    save_every: int = 10
    keep: int = 2
    samples_every: int = 5

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise UserError(f"RunConfig.total_steps is at least 1, not {self.total_steps}")
        if not self.temperature > 0:
            raise UserError(
                f"RunConfig.temperature is {self.temperature}: self-play samples, never greedily"
            )
        if self.sandbox_level not in (1, 2, 3):
            raise UserError(f"RunConfig.sandbox_level is 1, 2 or 3, not {self.sandbox_level}")


@dataclass
class Run:
    """The parts of a run, and the few things that `train` asks of them."""

    config: RunConfig
    eval: EvalConfig
    policy: Policy
    game: SelfPlay
    sampler: Sampler
    optimizer: Any
    updater: Update
    checkpoints: Checkpoints
    meta: dict[str, Any]
    progress: Progress
    console: Console
    metrics: SegmentWriter = field(init=False)
    samples: SegmentWriter = field(init=False)
    interrupted: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0
    since: float = field(default_factory=time.monotonic)
    shapes_seen: set[tuple[int, int]] = field(default_factory=set)

    @property
    def directory(self) -> Path:
        return Path(self.config.run_dir)

    # --- start and end -------------------------------------------------------------------------

    def restore_or_start(self) -> tuple[TrainState, SelfPlayState]:
        """The newest checkpoint of the run directory, or a fresh, seeded state."""
        model, mesh = self.policy.model, self.policy.mesh
        found = self.checkpoints.restore_latest(abstract_state(model, self.optimizer, mesh))
        if found is not None:
            state, kept, _ = found
            self.seconds = kept["seconds"]
            self.open_logs(int(state.step))
            self.progress.note(f"resumed at step {int(state.step)} of {self.config.total_steps}")
            return state, SelfPlayState.from_json(kept["play"])
        state = state_of_params(model, self.optimizer, mesh, self.policy.params)
        self.open_logs(0)
        self.measure("before", state)
        play = self.seed(state)
        self.save(state, play)
        return state, play

    def seed(self, state: TrainState) -> SelfPlayState:
        """Buffers from the seed files, or from the model's own proposals on the zero triplet."""
        self.progress.phase("seeding")
        if self.config.seed_files:
            drafts = [d for f in self.config.seed_files for d in seeds.load_seeds(Path(f))]
            verified = seeds.verify_seeds(drafts, self.game.box, self.game.config.rules)
            self.progress.note(f"seeds: {verified.summary()}")
            return self.game.start(verified.triplets, verified.induction_tasks)
        start = self.game.start()

        def propose(requests: Sequence[Request]) -> list[Proposal]:
            rollouts = self.sample(state.params, requests, -1 - next(rounds))
            return [r.proposal for r in rollouts]

        rounds = iter(range(1_000_000))
        play, warnings = seeds.self_seed(self.game, start, propose)
        for warning in warnings:
            self.progress.note(f"warning: {warning}")
        return play

    def finish(self, state: TrainState, play: SelfPlayState) -> Summary:
        """Final checkpoint, final measurement, `summary.json`; or those that are there already."""
        done = read_summary(self.directory)
        if done is not None and done["steps"] == int(state.step):
            self.progress.note(
                f"this run is finished. To start anew, remove {self.directory} or name another "
                "--run_dir; to go on, give more --steps"
            )
            return done
        self.save(state, play)
        self.checkpoints.wait()
        before, after = self.measured("before"), self.measure("after", state)
        device = jax.devices()[0]
        found = make_summary(
            run=str(self.directory),
            steps=int(state.step),
            seconds=self.elapsed(),
            device=f"{self.policy.mesh.size} x {device.device_kind}",
            sandbox_level=self.game.box.level,
            valid_proposals=[
                row["valid_proposals"]
                for row in read_rows(self.directory / "metrics")
                if "valid_proposals" in row
            ],
            heldout=heldout.report(self.eval, before, after) if before and after else None,
        )
        write_summary(found, self.directory)
        return found

    # --- one step ------------------------------------------------------------------------------

    def sample(self, params: Any, requests: Sequence[Request], step: int) -> list[Rollout]:
        """Sample every request; each completion goes to the sandbox as soon as it is finished."""
        prompts, members = _prompts(requests, self.policy.tokenizer.encode, step)
        pending: list[tuple[int, Any, Pending[Any]]] = []
        for done in self.sampler.stream(params, prompts, temperature=self.config.temperature):
            index = members[done.prompt] + done.sample
            request = requests[index]
            check: Pending[Proposal] | Pending[Answer]
            if request.role == "propose":
                check = self.game.submit_proposal(request, done.text)
            else:
                check = self.game.submit_answer(request, done.text)
            pending.append((index, done, check))
        pending.sort(key=lambda item: item[0])
        return [Rollout(requests[i], done, check.result()) for i, done, check in pending]

    def pack(
        self, rollouts: Sequence[Rollout], advantages: np.ndarray, counted: np.ndarray
    ) -> Batch:
        """The completions that count, packed; prompts that samples share are stored once."""
        samples = [
            Sample(
                prompt=tuple(self.policy.tokenizer.encode(r.request.prompt)),
                completion=r.completion.tokens,
                behaviour_logp=r.completion.logprobs,
                advantage=float(advantage),
                group=r.request.group,
                weight=float(use and (self.config.train_propose or r.request.role == "solve")),
            )
            for r, advantage, use in zip(rollouts, advantages, counted, strict=True)
        ]
        rows, multiple = self.config.batch_rows, self.updater.row_multiple
        return pack(samples, self.config.row_tokens, rows=rows, multiple=multiple)

    def update(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, np.ndarray]]:
        """One optimiser step; a batch shape that was not seen before is compiled, and told."""
        if self.shapes_seen and batch.shape not in self.shapes_seen:
            self.progress.note(f"warning: the update is compiled again, for {batch.shape}")
        self.shapes_seen.add(batch.shape)
        state, metrics = self.updater(state, batch)
        return state, summary(metrics)

    # --- log and save --------------------------------------------------------------------------

    def open_logs(self, step: int) -> None:
        """Metrics and samples from `step` on; what lies past it is dropped."""
        self.metrics = SegmentWriter(self.directory / "metrics", step)
        self.samples = SegmentWriter(self.directory / "samples", step)

    def log(
        self,
        step: int,
        clock: observe.Clock,
        metrics: dict[str, np.ndarray],
        before: SelfPlayState,
        proposals: Sequence[Proposal],
        rates: Sequence[float | None],
        scored: Sequence[Scored],
        learnt: Sequence[Rollout],
        estimated: Sequence[Rollout],
    ) -> None:
        """A row of metrics, and now and then the samples behind it."""
        clock.stop()
        rollouts = [*learnt, *estimated] if not self.config.estimate_reuse else list(learnt)
        row = observe.step_row(step, self.game.config, proposals, rates, scored, rollouts)
        row |= observe.update_row(metrics)
        row |= {f"seconds/{name}": s for name, s in clock.seconds.items()}
        tokens = sum(len(r.completion.tokens) for r in rollouts)
        sampling = sum(s for name, s in clock.seconds.items() if name not in ("update", "log"))
        row["tokens_per_s"] = tokens / max(sampling, 1e-9)
        row |= {f"buffer/{name}": len(b) for name, b in before.buffers.items()}
        row |= {f"sandbox/{name}": v for name, v in self.game.box.stats().items()}
        if row["skipped"]:
            self.progress.note(f"warning: step {step}: nothing to learn from, no update")
        if not any(p.valid for p in proposals):
            self.progress.note(f"warning: step {step}: not one valid proposal")
        self.metrics.append(row)
        self.progress.step(row)
        if step % self.config.samples_every == 0:
            for item in observe.sample_rows(step, proposals, scored):
                self.samples.append(item)

    def save(self, state: TrainState, play: SelfPlayState) -> None:
        kept = {"play": play.to_json(), "seconds": self.elapsed()}
        self.checkpoints.save(int(state.step), state, kept, self.meta)
        self.metrics.seal()
        self.samples.seal()

    def save_and_evaluate_when_due(self, state: TrainState, play: SelfPlayState) -> None:
        """Checkpoint every `save_every` steps and on interruption, which also ends the run."""
        step = int(state.step)
        if self.interrupted.is_set():
            self.save(state, play)
            self.checkpoints.wait()
            raise Interrupted(f"saved step {step}; the same command goes on from there")
        if step % self.config.save_every == 0 and step < self.config.total_steps:
            self.save(state, play)

    def elapsed(self) -> float:
        """Seconds of this run so far, earlier sessions included."""
        return self.seconds + time.monotonic() - self.since

    # --- held-out tasks ------------------------------------------------------------------------

    def measure(self, name: Literal["before", "after"], state: TrainState) -> Measured | None:
        """Held-out accuracy, kept in `heldout/NAME.json`; None where no benchmark is set."""
        if not self.eval.test:
            return None
        self.progress.phase(f"measuring held-out accuracy {name}")

        def sample(prompts: Sequence[Prompt], temperature: float) -> Iterator[Completion]:
            keyed = [replace(p, stream=(0, PURPOSES.index("evaluate"), *p.stream)) for p in prompts]
            return self.sampler.stream(state.params, keyed, temperature=temperature)

        found = heldout.measure(self.eval, self.game, sample, self.policy.tokenizer.encode)
        path = self.directory / "heldout" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".tmp")
        fresh.write_text(json.dumps(found.to_json()) + "\n", encoding="utf-8")
        fresh.replace(path)
        return found

    def measured(self, name: Literal["before", "after"]) -> Measured | None:
        path = self.directory / "heldout" / f"{name}.json"
        return Measured.from_json(json.loads(path.read_text())) if path.is_file() else None


class Interrupted(KeyboardInterrupt):
    """The user stopped the run; it is saved."""


def _prompts(
    requests: Sequence[Request], encode: Callable[[str], Sequence[int]], step: int
) -> tuple[list[Prompt], list[int]]:
    """One Prompt a run of requests with the same text, and the index of its first request."""
    prompts: list[Prompt] = []
    members: list[int] = []
    position = 0
    while position < len(requests):
        first = requests[position]
        end = position + 1
        while (
            end < len(requests)
            and first.purpose == "estimate"
            and requests[end].prompt == first.prompt
            and requests[end].index == first.index + end - position
        ):
            end += 1
        stream = (step, PURPOSES.index(first.purpose), first.group, first.index)
        prompts.append(Prompt(tuple(encode(first.prompt)), end - position, stream))
        members.append(position)
        position = end
    return prompts, members
