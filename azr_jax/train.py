"""Absolute Zero self-play: one model proposes tasks, solves them, and learns from both."""

from __future__ import annotations

import errno

from azr_jax import observe
from azr_jax.build import open_run
from azr_jax.hosts.group import Hosts
from azr_jax.learn.advantages import trr_plus_plus
from azr_jax.learn.checkpoint import CheckpointError
from azr_jax.report.summary import Summary, print_summary
from azr_jax.run import Run
from azr_jax.selfplay.triplet import group_of
from sandbox import SandboxUnavailable

ENDS = (CheckpointError, SandboxUnavailable, observe.PolicyMismatch, observe.RunFailed)
"""What ends a run with a message that tells what to do."""

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""What a disk says that was well when the run began."""


def train(run: Run) -> Summary:
    """The whole algorithm (arXiv 2505.03335, algorithm 1); `run` holds its parts."""
    state, play = run.restore_or_start()
    for step in range(int(state.step), run.config.total_steps):
        clock = observe.Clock(run.phase)

        # Propose, and solve what earlier steps proposed: one drain of the sampler.
        clock.start("propose and solve")
        requests = run.game.propose_requests(play, step)
        if run.game.config.solver_lag:
            requests += run.game.solve_requests(play, step)
        rollouts = run.sample(state.params, requests, step)

        # Filter: what runs, obeys the policy, is deterministic and yields plain values.
        proposed = [r for r in rollouts if r.request.role == "propose"]
        proposals = run.game.compare(play, [r.proposal for r in proposed])
        before, play = play, run.game.remember(play, proposals, step)
        if not run.game.config.solver_lag:
            rollouts += run.sample(state.params, run.game.solve_requests(play, step), step)

        # Estimate: how often does the solver get the new tasks right?
        clock.start("estimate")
        estimated = run.sample(state.params, run.game.estimate_requests(proposals), step)
        rates = run.game.solve_rates(proposals, [r.answer for r in estimated])

        # Reward both roles; whiten inside each of the six groups (TRR++).
        solved = [r for r in rollouts if r.request.role == "solve"]
        learnt = proposed + solved + (estimated if run.config.estimate_reuse else [])
        scored = run.game.reward(proposals, rates, [r.answer for r in learnt[len(proposed) :]])
        advantages, counted = trr_plus_plus(
            [s.reward for s in scored],
            [group_of(s.request.role, s.request.task_type) for s in scored],
            [len(r.completion.tokens) for r in learnt],
            whiten=run.config.whiten,
        )

        # Update once.
        clock.start("update")
        batch = run.pack(learnt, advantages, counted)
        state, metrics = run.update(state, batch)

        # Log, save, and measure on held-out tasks when due.
        clock.start("log")
        run.log(step, clock, metrics, before, proposals, rates, scored, learnt, estimated)
        run.save_and_evaluate_when_due(state, play)
    return run.finish(state)


def train_command(hosts: Hosts) -> None:
    """`azr train`: build the run that the parsed gin describes, train, print the table."""
    try:
        with open_run(hosts) as run:
            print_summary(train(run), run.console)
    except ENDS as error:
        raise SystemExit(f"azr: {error}") from error
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        what = "the disk is full: " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise SystemExit(
            f"azr: {what}{error}. Mend that, then run the same command again: it goes on from the "
            "newest checkpoint"
        ) from error
