"""One run: its configuration, its parts put together, and what it keeps on disk."""

from __future__ import annotations

import itertools
import math
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from azr_jax import observe, storage
from azr_jax.evals import heldout
from azr_jax.evals.heldout import EvalConfig, Measured
from azr_jax.hosts.group import Hosts
from azr_jax.learn.batching import Batch, Sample, pack
from azr_jax.learn.checkpoint import Checkpoints
from azr_jax.learn.state import TrainState, abstract_state, state_of_params
from azr_jax.learn.update import Update, summary
from azr_jax.model import backend
from azr_jax.model.sampler import Completion, Prompt, Sampler
from azr_jax.policy import Policy
from azr_jax.report.metrics import NoWriter, SegmentWriter, read_rows
from azr_jax.report.progress import Progress
from azr_jax.report.summary import Summary, make_summary, read_summary, write_summary
from azr_jax.rollout import EVALUATE, Rollout, prompts_of
from azr_jax.run_config import RunConfig
from azr_jax.selfplay import seeds
from azr_jax.selfplay.play import Proposal, Request, Scored, SelfPlay, SelfPlayState
from azr_jax.signals import Stopper

SCORE = "heldout/dev"
"""The column of the metrics that tells the best checkpoint."""


@dataclass
class Run:
    """The parts of a run, and the few things that `train` asks of them.

    hosts: all processes of the run; of them, the first alone writes logs and results.
    seeding: what the model wrote so far to seed itself, by round.
    complete: both states after the last whole step; no game while the buffers are being seeded.
    saved: the step of the newest checkpoint.
    compiled_ahead: programs compiled before the first step.
    box_stats: the counters of all sandboxes together when the last row was written.
    """

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
    hosts: Hosts = field(default_factory=Hosts)
    metrics: SegmentWriter | NoWriter = field(init=False)
    samples: SegmentWriter | NoWriter = field(init=False)
    before: Measured | None = field(init=False)
    stopper: Stopper = field(default_factory=Stopper)
    seconds: float = 0.0
    since: float = field(default_factory=time.monotonic)
    compiled_ahead: int = 0
    seeding: list[list[str]] = field(default_factory=list)
    complete: tuple[TrainState, SelfPlayState | None] | None = None
    saved: int | None = None
    box_stats: dict[str, float] = field(default_factory=dict)
    health: observe.Health = field(init=False)

    def __post_init__(self) -> None:
        self.health = observe.Health(self.config.max_bad_steps)

    @property
    def directory(self) -> Path:
        return storage.locate(self.config.run_dir)

    # --- start and end -------------------------------------------------------------------------

    def restore_or_start(self) -> tuple[TrainState, SelfPlayState]:
        """The newest checkpoint of the run directory, or a fresh, seeded state."""
        model, mesh = self.policy.model, self.policy.mesh
        found = self.checkpoints.restore_latest(abstract_state(model, self.optimizer, mesh))
        kept: dict[str, Any] = {}
        if found is None:
            state = state_of_params(model, self.optimizer, mesh, self.policy.params)
        else:
            state, kept, _ = found
            self.seconds = kept["seconds"]
            self.saved = int(state.step)
            self.progress.note(f"resumed at step {self.saved} of {self.config.total_steps}")
        # The state has them now: a second copy would stay as long as the run.
        self.policy = replace(self.policy, params={})
        if int(state.step) < self.config.total_steps:
            self.compile(state)
        self.open_logs(int(state.step))
        if "play" in kept:
            self.before = self.measured("before")
            self.complete = state, SelfPlayState.from_json(kept["play"])
            self.score_when_due(state)
            return self.complete
        self.complete = state, None
        self.seeding = kept.get("seeding", [])
        self.before = self.measured("before") or self.measure("before", state)
        self.complete = state, self.seed(state)
        self.save()
        return self.complete

    def seed(self, state: TrainState) -> SelfPlayState:
        """Buffers from the seed files, or from the model's own proposals on the zero triplet.

        The rounds in `self.seeding` are not sampled again.
        """
        self.phase("seeding")
        if self.config.seed_files:
            drafts = [d for f in self.config.seed_files for d in seeds.load_seeds(Path(f))]
            verified = seeds.verify_seeds(
                drafts,
                self.game.box,
                self.game.config.rules,
                self.hosts,
                self.game.require_usable,
            )
            self.progress.note(f"seeds: {verified.summary()}")
            return self.game.start(verified.triplets, verified.induction_tasks)
        start = self.game.start()
        rounds = itertools.count()

        def propose(requests: Sequence[Request]) -> list[Proposal]:
            number = next(rounds)
            if number == len(self.seeding):
                rollouts = self.sample(state.params, requests, -1 - number)
                self.seeding.append([r.completion.text for r in rollouts])
                return [r.proposal for r in rollouts]
            checks = self.game.checks()
            for index, text in enumerate(self.seeding[number]):
                checks.submit(index, requests[index], text)
            return [*checks.results().values()]

        play, warnings = seeds.self_seed(self.game, start, propose)
        for warning in warnings:
            self.progress.note(f"warning: {warning}")
        return play

    def finish(self, state: TrainState) -> Summary:
        """Final measurement, `summary.json`; or those that are there already."""
        done = self.hosts.from_first(lambda: read_summary(self.directory), "reading the summary")
        if done is not None and done["steps"] == int(state.step):
            self.progress.note(
                f"this run is finished. To start anew, remove {self.directory} or name another "
                "--run_dir; to go on, give more --steps"
            )
            return done
        self.metrics.seal()
        self.samples.seal()
        self.checkpoints.wait()
        before, after = self.before, self.measure("after", state)
        device = jax.devices()[0]

        def write() -> Summary:
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

        return self.hosts.from_first(write, "writing the summary")

    def compile(self, state: TrainState) -> None:
        """Every program of a step, at every size that it may have."""
        self.phase("compiling")
        self.sampler.compile(state.params, self.hosts.moved)
        for row_tokens in sorted(set(self.config.row_tokens)):
            self.hosts.moved()
            self.updater.compile(self.rows, row_tokens)
        self.compiled_ahead = self._compiled

    @property
    def rows(self) -> int:
        """Rows of every packed batch: enough for each completion of a step to have its own."""
        multiple = self.updater.row_multiple
        return math.ceil(self.config.most_rows(self.game.config) / multiple) * multiple

    @property
    def _compiled(self) -> int:
        return self.sampler.compiled + self.updater.compiled

    # --- one step ------------------------------------------------------------------------------

    def sample(self, params: Any, requests: Sequence[Request], step: int) -> list[Rollout]:
        """Sample every request; each completion goes to the sandbox as soon as it is finished."""
        # On every host: each schedules all of them, and telling ids takes longer than finding them.
        prompts, members = prompts_of(requests, self.policy.tokenizer.encode, step)
        checks, completions = self.game.checks(), {}
        for done in self.sampler.stream(params, prompts, temperature=self.config.temperature):
            index = members[done.prompt] + done.sample
            self.got_on()
            checks.submit(index, requests[index], done.text)
            completions[index] = done
        verdicts = checks.results()
        return [Rollout(requests[i], completions[i], verdict) for i, verdict in verdicts.items()]

    def phase(self, name: str) -> None:
        """Says what the run does now, to whoever watches it."""
        self.hosts.moved(name)
        self.progress.phase(name)

    def got_on(self) -> None:
        """Between two pieces of work: it is not stalled, and may be stopped here."""
        self.hosts.moved()
        self.stopper.check()

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
        return pack(
            samples,
            self.config.row_tokens,
            rows=self.rows,
            multiple=self.updater.row_multiple,
            share_prompts=backend.shares_prompts(),
        )

    def update(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, np.ndarray]]:
        """One optimiser step.

        No signal stops the run from here on until the step is logged: the old state is donated.
        """
        self.stopper.hold()
        self.complete = None
        state, sums = self.updater(state, batch)
        metrics = summary(sums)
        metrics["advantage_max"] = np.abs(batch.advantage).max(initial=0.0)
        return state, metrics

    # --- log and save --------------------------------------------------------------------------

    def open_logs(self, step: int) -> None:
        """Metrics and samples from `step` on; what lies past it is dropped."""

        def open_them() -> tuple[list[tuple[int, float]], list[tuple[int, bool]]]:
            self.metrics = SegmentWriter(self.directory / "metrics", step)
            self.samples = SegmentWriter(self.directory / "samples", step)
            rows = list(read_rows(self.directory / "metrics"))
            scores = [(r["step"] + 1, r[SCORE]) for r in rows if SCORE in r]
            return scores, [(r["step"], not observe.symptoms(r)) for r in rows if "skipped" in r]

        self.metrics = self.samples = NoWriter()
        scores, past = self.hosts.from_first(open_them, "opening the logs")
        self.checkpoints.scores.update(dict(scores))
        for earlier, well in past:
            self.health.take(earlier, well)
        self.checkpoints.prove(self.health.good)

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
        seconds = sum(clock.seconds.values())
        before_stats, self.box_stats = self.box_stats, self.everywhere(step, learnt)
        row |= observe.sandbox_row(
            before_stats, self.box_stats, seconds, self.config.max_infra_share
        )
        row["sampled_tokens"] = tokens
        if late := self._compiled - self.compiled_ahead:
            self.compiled_ahead += late
            self.progress.note(f"warning: step {step}: {late} programs were compiled late")
        row["late_compiles"] = late
        symptoms = observe.symptoms(row)
        for symptom in symptoms:
            self.progress.note(f"warning: step {step}: {symptom}")
        self.metrics.append(row)
        try:
            gap = observe.logprob_gap(metrics, self.config.max_gap)
        except observe.PolicyMismatch as error:
            raise observe.PolicyMismatch(f"step {step}: {error}. {self.last_good()}") from error
        if gap > self.config.gap_warning:
            self.progress.note(
                f"warning: step {step}: sampler and update differ by {gap:.3g} nats a token"
            )
        self.progress.step(row)
        if step % self.config.samples_every == 0:
            for item in observe.sample_rows(step, proposals, scored):
                self.samples.append(item)
        self.require_health(step, symptoms)

    def require_health(self, step: int, symptoms: Sequence[str]) -> None:
        """Keeps the last good checkpoint, and ends a run that has gone bad.

        Raises:
          RunFailed: `RunConfig.max_bad_steps` in a row have symptoms.
        """
        over = self.health.take(step, not symptoms)
        self.checkpoints.prove(self.health.good)
        if over:
            raise observe.RunFailed(
                f"step {step}: {'; '.join(symptoms)}; {self.health.bad} bad steps in a row "
                "(RunConfig.max_bad_steps). Look at the learning rate, the samples and the "
                f"metrics. {self.last_good()}"
            )

    def last_good(self) -> str:
        """Which checkpoint to go back to, and how."""
        good = [step for step in self.checkpoints.steps() if step <= self.health.good]
        if not good:
            return "No checkpoint is known to be good: no step was"
        return (
            f"The last good checkpoint is {self.directory / 'checkpoints' / str(good[0])}: start a "
            "new run with it as INIT_CHECKPOINT, or remove the later ones and run the same command "
            "again"
        )

    def everywhere(self, step: int, learnt: Sequence[Rollout]) -> dict[str, float]:
        """The counters of all sandboxes, summed; and a look at whether all learn the same.

        Raises:
          RuntimeError: the processes have drawn other tokens.
        """
        drawn = [token for r in learnt for token in r.completion.tokens]
        digest = zlib.crc32(np.array(drawn, np.int32).tobytes())
        found = self.hosts.gather([digest, self.game.box.stats()], f"ending step {step}")
        if len({digest for digest, _ in found}) > 1:
            raise RuntimeError(
                f"the processes have drawn other tokens in step {step}: digests "
                f"{[digest for digest, _ in found]}; their machines or libraries differ"
            )
        return {name: sum(stats[name] for _, stats in found) for name in found[0][1]}

    def save_and_evaluate_when_due(self, state: TrainState, play: SelfPlayState) -> None:
        """After a step. Here, too, ends a run that a signal came to during the update."""
        step, last = int(state.step), self.config.total_steps
        self.complete = state, play
        self.stopper.release()
        if step % self.config.save_every == 0 or self._scores(step) or step == last:
            self.save()
        self.score_when_due(state)

    def save(self) -> None:
        """Starts to save what is complete; the logs up to there are sealed first."""
        self.stopper.hold()
        self._save()
        self.stopper.release()

    def _save(self) -> None:
        assert self.complete is not None, "no step is complete while it is updated"
        state, play = self.complete
        self.metrics.seal()
        self.samples.seal()
        game = {"seeding": self.seeding} if play is None else {"play": play.to_json()}
        self.saved = int(state.step)
        self.checkpoints.save(self.saved, state, game | {"seconds": self.elapsed()}, self.meta)

    def save_complete(self) -> str:
        """For a run that ends here: saves what is not saved yet; returns a line that says it."""
        self.stopper.hold()
        if self.complete is not None:
            state, play = self.complete
            if self.seeding if play is None else self.saved != int(state.step):
                self._save()
        self.checkpoints.wait()
        return self.where_it_goes_on()

    def where_it_goes_on(self) -> str:
        """What another call of the same command does, given the checkpoints that are complete."""
        steps = self.checkpoints.steps()
        if not steps:
            return "nothing is saved yet; the same command starts anew"
        return f"saved step {steps[0]}; the same command goes on from there"

    def elapsed(self) -> float:
        """Seconds of this run so far, earlier sessions included."""
        return self.seconds + time.monotonic() - self.since

    # --- held-out tasks ------------------------------------------------------------------------

    def measure(self, name: Literal["before", "after"], state: TrainState) -> Measured | None:
        """Held-out accuracy, kept in `heldout/NAME.json`; None where no benchmark is set."""
        if not self.eval.test:
            return None
        self.phase(f"measuring held-out accuracy {name}")
        sample = self._evaluation_sampler(state)
        found = heldout.measure(self.eval, self.game, sample, self.policy.tokenizer.encode)
        if self.hosts.first:
            found.write(self._measured(name))
        return found

    def measured(self, name: Literal["before", "after"]) -> Measured | None:
        """What `measure` has kept, if anything.

        Raises:
          UserError: it is damaged.
        """

        def read() -> dict[str, Any] | None:
            kept = Measured.read(self._measured(name))
            return None if kept is None else kept.to_json()

        found = self.hosts.from_first(read, f"reading what was measured {name}")
        return None if found is None else Measured.from_json(found)

    def _measured(self, name: str) -> Path:
        return self.directory / "heldout" / f"{name}.json"

    def score_when_due(self, state: TrainState) -> None:
        """Accuracy on the dev tasks, for the log, and for which checkpoint stays as the best."""
        step = int(state.step)
        if not self._scores(step) or step in self.checkpoints.scores:
            return
        self.phase("measuring accuracy on the dev tasks")
        sample = self._evaluation_sampler(state)
        found = heldout.score(self.eval, self.game, sample, self.policy.tokenizer.encode)
        self.metrics.append({"step": step - 1, SCORE: found})
        self.checkpoints.scores[step] = found

    def _scores(self, step: int) -> bool:
        return step > 0 and self.eval.every > 0 and step % self.eval.every == 0

    def _evaluation_sampler(self, state: TrainState) -> heldout.Sample:
        def sample(prompts: Sequence[Prompt], temperature: float) -> Iterator[Completion]:
            keyed = [replace(p, stream=(0, EVALUATE, *p.stream)) for p in prompts]
            for done in self.sampler.stream(state.params, keyed, temperature=temperature):
                self.got_on()
                yield done

        return sample
