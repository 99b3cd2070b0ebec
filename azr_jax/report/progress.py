"""What the user sees while a run lasts: a live view on a terminal, else a line now and then."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

_RECENT_STEPS = 8


class Progress:
    """Shows one run. Use it as a context manager; every call is cheap.

    On a terminal: a panel that redraws itself. Elsewhere: one line after a step, and one from a
    timer while a step or a compilation takes long, never two within `heartbeat_s` seconds.
    """

    def __init__(
        self,
        title: str,
        total_steps: int,
        first_step: int = 0,
        *,
        heartbeat_s: float = 20.0,
        console: Console | None = None,
        unit: str = "step",
    ) -> None:
        self._console = console or Console()
        self._title = title
        self._total = total_steps
        self._done = first_step
        self._first = first_step
        self._phase = "starting"
        self._phase_since = self._since = time.monotonic()
        self._recent: deque[Row] = deque(maxlen=_RECENT_STEPS)
        self._step_ends: deque[tuple[float, int]] = deque(maxlen=_RECENT_STEPS)
        self._unit = unit
        self._spinner = Spinner("dots", style="cyan")
        self._live = (
            Live(self, console=self._console, refresh_per_second=4, transient=True)
            if self._console.is_terminal
            else None
        )
        self._heartbeat_s = heartbeat_s
        self._last_line = float("-inf")
        self._stop = threading.Event()
        self._timer = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        else:
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._live:
            self._live.stop()
        else:
            self._timer.join()

    def phase(self, name: str) -> None:
        """Says what the run does now: propose, filter, estimate, …"""
        self._phase, self._phase_since = name, time.monotonic()

    def step(self, row: Row) -> None:
        """One step is done, or all up to it; `row` is its metrics row."""
        self._recent.append(row)
        self._done = int(row["step"]) + 1
        self._step_ends.append((time.monotonic(), self._done))
        if not self._live and (
            time.monotonic() - self._last_line >= self._heartbeat_s or self._done == self._total
        ):
            self._line()

    def note(self, message: str) -> None:
        """A line that stays: a warning, a checkpoint, an evaluation."""
        self._console.print(Text(message))

    # --- one line --------------------------------------------------------------------------

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_s / 4):
            if time.monotonic() - self._last_line >= self._heartbeat_s:
                self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        parts = [f"{self._unit} {self._done}/{self._total}"]
        in_phase = time.monotonic() - self._phase_since
        if not self._recent or in_phase >= self._heartbeat_s / 2:
            parts.append(f"{self._phase} for {_clock(in_phase)}")
        if self._recent:
            parts += [f"{name} {value}" for name, value in self._numbers().items()]
        parts.append(f"elapsed {_clock(time.monotonic() - self._since)}")
        if (left := self._seconds_left()) is not None:
            parts.append(f"left {_clock(left)}")
        self._console.print(Text(" | ".join(parts)), soft_wrap=True)

    def _numbers(self) -> dict[str, str]:
        """What fits in a line, averaged over the last steps."""
        found = {}
        if (valid := self._mean("valid_proposals")) is not None:
            found["valid"] = f"{100 * valid:.0f}%"
        for prefix in ("solve_rate", "reward/propose", "reward/solve"):
            values = [self._mean(k) for k in self._keys(prefix)]
            if values:
                found[prefix.replace("_", " ")] = "/".join(_number(v) for v in values)
        if (speed := self._mean("tokens_per_s")) is not None:
            found["tokens/s"] = f"{speed:.0f}"
        return found

    def _mean(self, key: str) -> float | None:
        """Over the last steps that know the key."""
        values = [row[key] for row in tuple(self._recent) if row.get(key) is not None]
        return fmean(values) if values else None

    def _keys(self, prefix: str) -> list[str]:
        return [key for key in (self._recent[-1] if self._recent else {}) if _under(key, prefix)]

    def _seconds_left(self) -> float | None:
        ends = tuple(self._step_ends)
        if len(ends) < 2:
            return None
        (since, before), (now, done) = ends[0], ends[-1]
        return (now - since) / max(done - before, 1) * (self._total - done)

    # --- the live view ---------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        left = self._seconds_left()
        head.add_row(
            f"{self._unit} {self._done}/{self._total}",
            ProgressBar(total=max(self._total, 1), completed=self._done),
            f"{_clock(time.monotonic() - self._since)} elapsed"
            + (f", {_clock(left)} left" if left is not None else ""),
        )
        now = f" {escape(self._phase)} · {_clock(time.monotonic() - self._phase_since)}"
        self._spinner.update(text=Text.from_markup(now))
        parts: list[RenderableType] = [head, self._spinner]
        if self._recent:
            parts += [self._groups(), Text(self._footer(), style="dim")]
        yield Panel(
            Group(*parts), title=escape(self._title), title_align="left", border_style="cyan"
        )

    def _groups(self) -> Table:
        """One row a task type; columns averaged over the last steps."""
        table = Table(box=None, padding=(0, 2), header_style="dim")
        table.add_column("")
        types = dict.fromkeys(k.rpartition("/")[2] for k in self._keys("reward"))
        columns = {
            "valid": "valid/{}",
            "solve rate": "solve_rate/{}",
            "reward propose": "reward/propose/{}",
            "reward solve": "reward/solve/{}",
        }
        for heading in columns:
            table.add_column(heading, justify="right")
        for task_type in types:
            cells = [self._mean(key.format(task_type)) for key in columns.values()]
            table.add_row(escape(task_type), *(_number(value) for value in cells))
        return table

    def _footer(self) -> str:
        parts = []
        if (valid := self._mean("valid_proposals")) is not None:
            parts.append(f"valid proposals {100 * valid:.0f} %")
        if (speed := self._mean("tokens_per_s")) is not None:
            parts.append(f"{speed:,.0f} tokens/s")
        for key in self._keys("sandbox"):
            name = key.partition("/")[2].replace("_", " ")
            parts.append(f"sandbox {name} {_number(self._mean(key))}")
        return " · ".join(parts)


def _under(key: str, prefix: str) -> bool:
    return key == prefix or key.startswith(prefix + "/")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
