"""What a step tells the log: one flat row of numbers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from azr_jax.rollout import Rollout
from azr_jax.selfplay.play import PlayConfig, Proposal, Request, Scored
from azr_jax.selfplay.triplet import GROUPS, ROLES
from sandbox import SandboxUnavailable

_OF_NOW = ("busy", "queued")
"""Counters of the sandbox that are no totals."""


class PolicyMismatch(RuntimeError):
    """Sampler and update no longer compute the same policy."""


class RunFailed(RuntimeError):
    """Steps in a row from which nothing could be learnt."""


def symptoms(row: Mapping[str, Any]) -> list[str]:
    """What is wrong with a step whose metrics are `row`; one such step is no cause to stop."""
    found = []
    flat = row.get("advantage_max") == 0.0
    if row["skipped"]:
        found.append(
            "nothing to learn from, no update"
            if flat
            else "the loss or its gradient is not finite, no update"
        )
    elif flat:
        found.append("all advantages are 0")
    if row.get("valid_proposals") == 0.0:
        found.append("not one valid proposal")
    return found


@dataclass
class Health:
    """How many steps in a row were bad, of at most `most` (0: any number), and the last good one.

    good: the last step that was well, so that its state at the start was; -1: none yet.
    """

    most: int
    bad: int = 0
    good: int = -1

    def take(self, step: int, well: bool) -> bool:
        """Count a step; True where the run should end."""
        self.bad = 0 if well else self.bad + 1
        if well:
            self.good = step
        return bool(self.most) and self.bad >= self.most


class Clock:
    """Seconds of wall time by phase of a step; tells `announce` of every phase that starts."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._name: str | None = None
        self._since = time.monotonic()
        self.seconds: dict[str, float] = {}

    def start(self, name: str) -> None:
        self.stop()
        self._announce(name)
        self._name, self._since = name, time.monotonic()

    def stop(self) -> None:
        if self._name is not None:
            spent = time.monotonic() - self._since
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + spent
        self._name = None


def step_row(
    step: int,
    config: PlayConfig,
    proposals: Sequence[Proposal],
    rates: Sequence[float | None],
    scored: Sequence[Scored],
    rollouts: Sequence[Rollout],
) -> dict[str, Any]:
    """Rewards, solve rates, validity, novelty and lengths of one step.

    A share of nothing (no valid proposal of a type, say) is left out, never a division by zero.
    """
    row: dict[str, Any] = {"step": step}
    put = _Means(row)
    put("valid_proposals", (p.valid for p in proposals if p.status not in ("HELD_OUT", "INFRA")))
    put("novel_proposals", (p.novel for p in proposals if p.valid))
    written = [p for p in proposals if p.valid and p.request.task_type != "induction"]
    put("duplicate_programs", (p.copies > 0 for p in written))
    put("program_lines", (p.task.program.count("\n") for p in proposals if p.task is not None))
    for name in config.task_types:
        mine = [(p, r) for p, r in zip(proposals, rates, strict=True) if _type(p) == name]
        judged = [p for p, _ in mine if p.status not in ("HELD_OUT", "INFRA")]
        put(f"valid/{name}", (p.valid for p in judged))
        known = [r for _, r in mine if r is not None]
        put(f"solve_rate/{name}", known)
        put(f"learnable/{name}", (0.0 < r < 1.0 for r in known))
        for role in ROLES:
            group = [s for s in scored if _of(s.request, role, name)]
            put(f"reward/{role}/{name}", (s.reward for s in group if s.reward is not None))
            put(f"well_formed/{role}/{name}", (s.well_formed for s in group))
            row[f"protocol_violations/{role}/{name}"] = sum(s.status == "PROTOCOL" for s in group)
            runs = [r for r in rollouts if _of(r.request, role, name)]
            put(f"length/{role}/{name}", (len(r.completion.tokens) for r in runs))
        answers = [s for s in scored if _of(s.request, "solve", name) and s.correct is not None]
        put(f"accuracy/{name}", (s.well_formed and bool(s.correct) for s in answers))
        put(f"accuracy_any_form/{name}", (bool(s.correct) for s in answers))
        solves = [r for r in rollouts if _of(r.request, "solve", name)]
        put(f"thinks/{name}", (_thinks(r.completion.text) for r in solves))
    row["masked"] = sum(s.reward is None for s in scored)
    row["cut_by_length"] = sum(r.completion.stop == "length" for r in rollouts)
    statuses = Counter(p.status for p in proposals)
    row |= {f"status/{name}": count for name, count in sorted(statuses.items())}
    return row


def sandbox_row(
    before: Mapping[str, float], now: Mapping[str, float], seconds: float, max_infra_share: float
) -> dict[str, float]:
    """What the sandbox did between two of its `stats`, `seconds` apart.

    Counts, and: programs a second; the mean wait of a program for a free worker, in seconds; the
    share of the programs' CPU time that ran into a limit.

    Raises:
      SandboxUnavailable: it failed, by itself, at more than this share of its jobs.
    """
    spent = {name: now[name] - before.get(name, 0) for name in now if name not in _OF_NOW}
    lost, jobs = spent["INFRA"], spent["jobs"]
    if lost > max_infra_share * jobs:
        raise SandboxUnavailable(
            f"the sandbox lost {lost:.0f} of {jobs:.0f} jobs in one step, more than "
            f"RunConfig.max_infra_share = {max_infra_share}: this host kills its processes, or "
            "starts no more. Give it memory and processes, then run the same command again: it "
            "goes on from the newest checkpoint"
        )
    return {
        **{f"sandbox/{name}": value for name, value in spent.items()},
        "sandbox/programs_per_s": spent["forks"] / max(seconds, 1e-9),
        "sandbox/queue_wait_s": spent["queue_wait_s"] / max(spent["forks"], 1),
        "sandbox/timeout_cpu_share": spent["timeout_cpu_s"] / max(spent["cpu_s"], 1e-9),
    }


def update_row(metrics: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The optimiser's metrics; those that come per group get the group's name."""
    row: dict[str, Any] = {}
    for name, value in metrics.items():
        if value.ndim == 0:
            row[name] = float(value)
            continue
        for (role, task_type), number in zip(GROUPS, value, strict=True):
            if np.isfinite(number):
                row[f"{name}/{role}/{task_type}"] = float(number)
    return row


def logprob_gap(metrics: Mapping[str, np.ndarray], most: float) -> float:
    """Mean |log-prob of the update - log-prob of the sampler| in nats, of the worst group.

    Groups without a token have none; 0.0 where no group has any.

    Raises:
      PolicyMismatch: it exceeds `most`, or is not finite: what is learnt from is not what was
        sampled.
    """
    gap = float(np.max(metrics["gap"], where=metrics["tokens"] > 0, initial=0.0))
    if not np.isfinite(gap):
        raise PolicyMismatch(
            "the log-probs of the sampled tokens are not finite: the weights hold NaN or infinity. "
            "Look at the model that was imported, or at the learning rate"
        )
    if gap > most:
        raise PolicyMismatch(
            f"the update's log-probs of the sampled tokens differ from the sampler's by {gap:.3g} "
            f"nats a token, more than RunConfig.max_gap = {most:g}: what is learnt from is not "
            "what was sampled. Look at ModelConfig.dtype and the versions of jax and its compiler"
        )
    return gap


def sample_rows(
    step: int, proposals: Sequence[Proposal], scored: Sequence[Scored], most: int = 4
) -> list[dict[str, Any]]:
    """A few completions of every group, with what became of them."""
    reasons = {p.request: p.reason for p in proposals if p.reason}
    taken: Counter[int] = Counter()
    rows = []
    for s in scored:
        if taken[s.request.group] == most:
            continue
        taken[s.request.group] += 1
        rows.append(
            {
                "step": step,
                "role": s.request.role,
                "task_type": s.request.task_type,
                "prompt": s.request.prompt,
                "completion": s.text,
                "reward": s.reward,
                "correct": s.correct,
                "status": s.status,
                "reason": reasons.get(s.request, ""),
            }
        )
    return rows


def _thinks(text: str) -> bool:
    return bool(text.partition("</think>")[0].strip())


def _type(proposal: Proposal) -> str:
    return proposal.request.task_type


def _of(request: Request, role: str, task_type: str) -> bool:
    return request.role == role and request.task_type == task_type


class _Means:
    """Writes the mean of some numbers into a row, unless there are none."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    def __call__(self, name: str, values: Iterable[float]) -> None:
        found = [float(v) for v in values]
        if found:
            self._row[name] = sum(found) / len(found)
