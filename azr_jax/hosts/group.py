"""What the processes of a run say to each other: plain data, in the same order on all of them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from azr_jax.errors import UserError
from azr_jax.hosts.watch import Client, Watch

Json = Any

_START_S = 300.0
_SLACK_S = 60.0
"""A watchdog that is due at the same time goes first: it shows stacks."""
_NEVER_S = 7 * 86400.0


class Refused(UserError):
    """What one process refuses, and so all of them do."""


class Hosts:
    """All processes of a run, as one of them sees them. Alone, everything here is at no cost.

    index, count: which of how many this process is. names: what to call each in a message.
    stopping: whether any was asked to stop, as far as all of them know.
    asked: whether this one was; for the run to set.

    As a context manager: all leave together, or the others learn why this one left.
    """

    def __init__(
        self, index: int = 0, names: Sequence[str] = ("",), client: Client | None = None
    ) -> None:
        self.index, self.count, self.names = index, len(names), list(names)
        self.stopping = False
        self.asked: Callable[[], bool] = lambda: False
        self.watch: Watch | None = None
        self._client = client
        self._patience_s = _START_S
        self._round = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.index == 0

    def stall_after(self, seconds: float) -> None:
        """Ends all processes when nothing moves for so long in one of them; 0: never."""
        self._patience_s = seconds + _SLACK_S if seconds else _NEVER_S
        if self.watch is not None:
            self.watch.moved()
            self.watch.stall_s = seconds

    def moved(self, doing: str | None = None) -> None:
        """Tells the watchdog that this process got on, and what it is at."""
        if self.watch is not None:
            self.watch.moved(doing)

    # --- agreement -----------------------------------------------------------------------------

    def gather(self, value: Json, doing: str) -> list[Json]:
        """The values of all processes, by index, on every one of them.

        All call it at the same points of their programs; `doing` names this one. `stopping` is
        updated here, so on all at once.

        Raises:
          RuntimeError: a process has sent nothing in time, or is somewhere else in its program.
        """
        self.moved(doing)
        asked = self.asked()
        if self._client is None:
            self.stopping |= asked
            return [value]
        mine = {"doing": doing, "asked": asked, "value": value}
        rows = self._exchange(self._client, mine, doing)
        for name, row in zip(self.names, rows, strict=True):
            if row["doing"] != doing:
                raise RuntimeError(
                    f"the processes have parted: {name} is {row['doing']}, "
                    f"{self.names[self.index]} is {doing}"
                )
        self.stopping |= any(row["asked"] for row in rows)
        self.moved()
        return [row["value"] for row in rows]

    def from_first(self, make: Callable[[], Json], doing: str) -> Json:
        """What `make` returns on process 0, as JSON keeps it; the others do not call it.

        Raises:
          Refused: it raised a UserError there.
        """
        if self._client is None:
            return make()
        value: Json = None
        with self.together(doing):
            if self.first:
                value = make()
        return self.gather(value, doing)[0]

    @contextlib.contextmanager
    def together(self, doing: str) -> Iterator[None]:
        """A UserError that is raised inside by any process is raised by all of them."""
        refusal = None
        try:
            yield
        except UserError as error:
            if self._client is None:
                raise
            refusal = str(error)
        refusals = self.gather(refusal, doing)
        for name, text in zip(self.names, refusals, strict=True):
            if text is not None:
                raise Refused(text if len(set(refusals)) == 1 else f"{name}: {text}")

    def require_same(self, facts: Mapping[str, Any], doing: str) -> None:
        """Refuses where another process knows something else under one of these names.

        Raises:
          Refused: names the first that differs, with both values.
        """
        said: list[Mapping[str, Any]] = self.gather({k: str(v) for k, v in facts.items()}, doing)
        wanted = said[0]
        for name, found in zip(self.names, said, strict=True):
            other = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
            if other:
                key = other[0]
                more = f" ({len(other)} differ)" if len(other) > 1 else ""
                raise Refused(
                    f"{name} has {key} = {found.get(key)}, {self.names[0]} has "
                    f"{wanted.get(key)}{more}: all processes of a run must have the same"
                )

    def _exchange(self, client: Client, mine: Json, doing: str) -> list[Json]:
        """Everybody's row goes to process 0, all rows come back: each process reads one value."""
        folder = f"azr/gather/{self._round}"
        self._round += 1
        deadline = time.monotonic() + self._patience_s
        if not self.first:
            client.key_value_set_bytes(f"{folder}/{self.index}", _packed(mine))
            rows: list[Json] = self._receive(client, f"{folder}/all", 0, doing, deadline)
            return rows
        rows = [mine]
        for i in range(1, self.count):
            rows.append(self._receive(client, f"{folder}/{i}", i, doing, deadline))
        client.key_value_set_bytes(f"{folder}/all", _packed(rows))
        # Whoever is here has read the round before.
        if self._round > 1:
            client.key_value_delete(f"azr/gather/{self._round - 2}/")
        return rows

    def _receive(self, client: Client, key: str, sender: int, doing: str, deadline: float) -> Json:
        left_ms = max(1, int(1000 * (deadline - time.monotonic())))
        try:
            return json.loads(zlib.decompress(client.blocking_key_value_get_bytes(key, left_ms)))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            raise RuntimeError(
                f"{self.names[sender]} has sent nothing for {self._patience_s:.0f} s while {doing}"
            ) from error

    # --- the end -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.watch is None:
            return
        stopped = self.stopping and isinstance(error, KeyboardInterrupt)
        if self._client is not None:
            if error is None or stopped or isinstance(error, Refused):
                self.gather(None, "ending")
            else:
                self._leave_alone(self.watch, error)
        self.watch.stop()
        if self.watch.last_words is not None:
            self.watch.last_words.bye()

    def _leave_alone(self, watch: Watch, error: BaseException) -> None:
        """This process fails and the others do not, or not yet."""
        code = 2 if isinstance(error, UserError) else 1
        if code == 1 and not isinstance(error, KeyboardInterrupt):
            watch.wait_for_news()  # most often another is lost, which is why: then this ends here
        text = " ".join(str(error).split()).removeprefix("azr: ") or type(error).__name__
        watch.tell("failed", f"{self.names[self.index]} failed: {text[:500]}", code)
        watch.linger()
        # Else jax waits for the others to leave with this one.
        atexit.register(_end, code)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _packed(value: Json) -> bytes:
    return zlib.compress(json.dumps(value).encode(), level=1)
