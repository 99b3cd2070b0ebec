"""The buffer: the growing set of valid tasks of one task type, and how it is drawn from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from azr_jax.selfplay.triplet import (
    Task,
    key_with_inputs,
    program_key,
    task_from_json,
    task_to_json,
)

SEED_STEP = -1
"""The step at which seeds enter a buffer: just before the first one."""


def rng(seed: int, step: int, purpose: str, index: int = 0) -> random.Random:
    """The generator of one draw. No generator outlives its draw, so a resume needs no state."""
    return random.Random(f"{seed}/{step}/{purpose}/{index}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A task and the step at which it entered, together: the two cannot fall out of step."""

    task: Task
    step: int
    program: str  # program_key
    key: str  # task_key

    @staticmethod
    def of(task: Task, step: int, program: str | None = None) -> Entry:
        program = program or program_key(task.program)
        return Entry(task, step, program, key_with_inputs(program, task))


@dataclass(frozen=True)
class Buffer:
    """A ring of at most `capacity` entries, oldest first. A value: `add` gives a new one."""

    capacity: int
    entries: tuple[Entry, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(entry.key for entry in self.entries)

    @cached_property
    def copies(self) -> Counter[str]:
        """How many entries hold the program with this key."""
        return Counter(entry.program for entry in self.entries)

    def add(self, tasks: Sequence[Task], step: int) -> Buffer:
        """With the tasks that are not in it yet; where it overflows the oldest leave."""
        entries = {entry.key: entry for entry in self.entries}
        for task in tasks:
            entry = Entry.of(task, step)
            entries.setdefault(entry.key, entry)
        return Buffer(self.capacity, tuple(entries.values())[-self.capacity :])

    def sample(self, count: int, rng: random.Random) -> list[Task]:
        """`count` tasks, or all if there are fewer: uniform, without replacement."""
        chosen = rng.sample(range(len(self)), min(count, len(self)))
        return [self.entries[i].task for i in chosen]

    def newest_first(self, since: int, rng: random.Random) -> list[Task]:
        """All tasks: those that entered at step `since` or later shuffled, then the rest shuffled.

        Its first B are the original's `max_new` mix: the recent window, filled up uniformly.
        """
        recent = [entry.task for entry in self.entries if entry.step >= since]
        rest = [entry.task for entry in self.entries if entry.step < since]
        rng.shuffle(recent)
        rng.shuffle(rest)
        return recent + rest

    def to_json(self) -> dict[str, Any]:
        # The keys are kept: to find 16384 of them anew would take a restore a minute.
        rows = [
            {**task_to_json(e.task), "step": e.step, "program_key": e.program} for e in self.entries
        ]
        return {"capacity": self.capacity, "entries": rows}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Buffer:
        rows = value["entries"]
        entries = tuple(
            Entry.of(task_from_json(row), row["step"], row["program_key"]) for row in rows
        )
        return Buffer(value["capacity"], entries)
