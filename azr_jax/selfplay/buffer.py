"""The buffer: the growing set of valid tasks of one task type, and how it is drawn from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from azr_jax.selfplay.triplet import (
    Task,
    key_with_inputs,
    program_key,
    task_from_json,
    task_to_json,
)

Eviction = Literal["oldest", "newest", "random"]

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
    """At most `capacity` entries, oldest first. A value: `add` gives a new one.

    eviction: who leaves a full buffer. "oldest": it is a ring. "newest": the new task does not
        enter, as in the original, whose buffers take nothing after their 16384th. "random": every
        task that ever came is in it with the same chance (reservoir sampling, Vitter 1985,
        algorithm R).
    came: how many tasks have been added so far, those that left included.
    """

    capacity: int
    entries: tuple[Entry, ...] = ()
    eviction: Eviction = "oldest"
    came: int = 0

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(entry.key for entry in self.entries)

    @cached_property
    def copies(self) -> Counter[str]:
        """How many entries hold the program with this key."""
        return Counter(entry.program for entry in self.entries)

    def add(self, tasks: Sequence[Task], step: int, again: bool = False) -> Buffer:
        """With the tasks that are not in it yet; `again`: also with those that are."""
        entries, came = list(self.entries), self.came
        known = set(self.keys)
        for task in tasks:
            entry = Entry.of(task, step)
            if entry.key in known and not again:
                continue
            known.add(entry.key)
            came += 1
            if len(entries) < self.capacity:
                entries.append(entry)
            elif self.eviction == "oldest":
                del entries[0]
                entries.append(entry)
            elif self.eviction == "random":
                out = random.Random(f"{came}/{entry.key}").randrange(came)
                if out < self.capacity:
                    del entries[out]
                    entries.append(entry)
        return replace(self, entries=tuple(entries), came=came)

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
        return {
            "capacity": self.capacity,
            "entries": rows,
            "eviction": self.eviction,
            "came": self.came,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Buffer:
        rows = value["entries"]
        entries = tuple(
            Entry.of(task_from_json(row), row["step"], row["program_key"]) for row in rows
        )
        # Buffers of older checkpoints are rings.
        eviction, came = value.get("eviction", "oldest"), value.get("came", len(entries))
        return Buffer(value["capacity"], entries, eviction, came)
