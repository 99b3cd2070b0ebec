"""Waiting for what must happen, however slow the machine is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 600
"""No test is right or wrong by the clock: what takes longer hangs."""


def until(holds: Callable[[], object], *running: subprocess.Popen[Any]) -> None:
    """Returns once it holds; fails where one of the processes ends before, or nothing comes."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        for process in running:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "this hangs"
        time.sleep(0.01)
