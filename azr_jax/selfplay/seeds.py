"""Where the first tasks come from: files of model-written seeds, or the model itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_jax.errors import UserError
from azr_jax.selfplay import drafts
from azr_jax.selfplay.buffer import SEED_STEP
from azr_jax.selfplay.checks import Alone, Peers
from azr_jax.selfplay.drafts import Draft, DraftRules, Rejected
from azr_jax.selfplay.play import SelfPlay
from azr_jax.selfplay.state import Proposal, Request, SelfPlayState
from azr_jax.selfplay.tasks import TASKS
from azr_jax.selfplay.triplet import (
    InductionTask,
    Task,
    TaskType,
    Triplet,
    task_from_json,
    task_to_json,
)
from sandbox import Sandbox, jsonl

_USES: dict[TaskType, tuple[TaskType, ...]] = {
    "deduction": ("deduction", "abduction"),
    "induction": ("induction",),
}


@dataclass(frozen=True, slots=True)
class VerifiedSeeds:
    """Seeds that ran, with the outputs of that run, and why the others were left out.

    rejected: (index of the draft, status, reason).
    """

    triplets: tuple[Triplet, ...]
    induction_tasks: tuple[InductionTask, ...]
    rejected: tuple[tuple[int, str, str], ...]

    def summary(self) -> str:
        # What a program raised, say, is told by its status: the texts all differ.
        counts = Counter(
            f"{status}: {reason.partition(':')[0]}" if status == "REJECTED" else status
            for _, status, reason in self.rejected
        )
        why = "; ".join(f"{n} {cause}" for cause, n in counts.most_common())
        return (
            f"{len(self.triplets)} triplets and {len(self.induction_tasks)} induction tasks, "
            f"{len(self.rejected)} rejected{f' ({why})' if why else ''}"
        )


def load_seeds(path: Path) -> list[Draft]:
    """The rows of a seed file in the original's format.

    Raises:
      UserError: the file cannot be read, or a line is no seed; names the line.
    """
    try:
        return jsonl.read(path, "a seed", drafts.draft_from_row, text=True)
    except jsonl.JsonlError as error:
        raise UserError(str(error)) from error


def verify_seeds(
    seeds: Sequence[Draft],
    box: Sandbox,
    rules: DraftRules | None = None,
    peers: Peers | None = None,
    require_usable: Callable[[TaskType, Task], None] = lambda task_type, task: None,
) -> VerifiedSeeds:
    """Run every seed as a proposal is run. Outputs in the file count for nothing.

    Each of the `peers` runs its share; all get the whole. `require_usable` raises Rejected for a
    task that the game could not put into a prompt; deduction and abduction share their seeds.
    """
    rules, peers = rules or DraftRules(), peers or Alone()
    mine: list[tuple[int, str, str, Any]] = []
    vetted: list[tuple[int, Draft]] = []
    for index in range(peers.index, len(seeds), peers.count):
        try:
            vetted.append((index, drafts.vet(seeds[index], rules)))
        except Rejected as why:
            mine.append((index, why.status, why.reason, None))
    outcomes = box.run([drafts.job(draft) for _, draft in vetted])
    for (index, draft), outcome in zip(vetted, outcomes, strict=True):
        task_type: TaskType = "deduction" if draft.message is None else "induction"
        try:
            task = TASKS[task_type].make_task(draft, outcome)
            for used_as in _USES[task_type]:
                require_usable(used_as, task)
        except Rejected as why:
            mine.append((index, why.status, why.reason, None))
        else:
            mine.append((index, "OK", "", task_to_json(task)))
    found = sorted(
        (row for rows in peers.gather(mine, "verifying seeds") for row in rows),
        key=lambda row: row[0],
    )
    tasks = [task_from_json(task) for *_, task in found if task is not None]
    return VerifiedSeeds(
        tuple(task for task in tasks if isinstance(task, Triplet)),
        tuple(task for task in tasks if isinstance(task, InductionTask)),
        tuple((index, status, reason) for index, status, reason, task in found if task is None),
    )


def self_seed(
    play: SelfPlay,
    state: SelfPlayState,
    propose: Callable[[Sequence[Request]], Sequence[Proposal]],
    max_rounds: int = 100,
    patience: int = 5,
) -> tuple[SelfPlayState, list[str]]:
    """Fill the buffers from the zero triplet: what is found serves the next round as reference.

    First deduction and abduction, whose programs induction is then proposed on. No update of the
    model in between.

    Args:
        propose: samples one completion per request and filters it.
        max_rounds: per stage. patience: barren rounds in a row that end a stage.

    Returns:
        The state, and a warning for each stage that fell short of `seed_target`.
    """
    warnings = []
    stages: tuple[tuple[TaskType, ...], ...] = (("deduction", "abduction"), ("induction",))
    for stage in stages:
        types = tuple(t for t in stage if t in play.config.task_types) or stage[:1]
        if stage == ("induction",) and "induction" not in play.config.task_types:
            continue
        barren = rounds = 0
        size = _smallest(state, stage)
        while size < play.config.seed_target and rounds < max_rounds and barren < patience:
            proposals = propose(play.seed_requests(state, types, rounds))
            state = play.remember(state, proposals, SEED_STEP)
            before, size = size, _smallest(state, stage)
            barren = 0 if size > before else barren + 1
            rounds += 1
        if size < play.config.seed_target:
            warnings.append(
                f"seeding {' and '.join(stage)} stopped at {size} of {play.config.seed_target} "
                f"tasks after {rounds} rounds, the last {barren} without a new valid task; "
                "self-play starts from these"
            )
    return state, warnings


def _smallest(state: SelfPlayState, task_types: Sequence[TaskType]) -> int:
    return min(len(state.buffers[t]) for t in task_types)
