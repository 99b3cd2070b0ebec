"""Level 1 where there is no Linux (macOS): interval timers and rlimits, and no wall at all.

The clocks are signals that a program may ignore, and macOS does not hold its processes to a limit
of address space; RLIMIT_CPU, in whole seconds, is what ends a program in any case.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from sandbox.child.kernel import Budget, MissingPrimitive


class PortableWalls:
    """As `kernel.Walls`, of which it has the methods that a zygote and its children call."""

    level = 1

    def __init__(self, level: int, usual: Budget) -> None:
        if level > 1:
            raise MissingPrimitive(1)
        self.usual = usual
        self._armed = False  # until then `enter` is a rehearsal

    def raise_in_zygote(self) -> None:
        """What children inherit: no core dumps, no files that grow, few descriptors."""
        try:
            for kind, value in (
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_FSIZE, 0),
                (resource.RLIMIT_NOFILE, 16),
            ):
                resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            raise MissingPrimitive(5) from None
        self._armed = True

    def die_with_parent(self, parent: int) -> None:
        """There is no such signal: a child whose job pipe is closed ends, one that runs a program
        is ended by its clock."""
        if os.getppid() != parent:
            os._exit(1)

    def enter(self, budget: Budget, calls: int) -> None:
        """Arm the clocks and, where the host has one, the memory limit."""
        if not self._armed:
            return
        cpu_s, _, memory_mb = budget
        whole = int(cpu_s * calls) + 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
        except (OSError, ValueError):
            raise MissingPrimitive(5) from None
        with contextlib.suppress(OSError, ValueError):  # macOS takes no limit below what is mapped
            space = (1 << 30) + (memory_mb << 20)
            resource.setrlimit(resource.RLIMIT_AS, (space, space))
        self.rearm(budget)

    def rearm(self, budget: Budget) -> None:
        """Give the next call a fresh budget."""
        cpu_s, wall_s, _ = budget
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        signal.setitimer(signal.ITIMER_REAL, wall_s)
