"""Ctrl-C and SIGTERM: the first asks a run to stop and save, the second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

STOPPING = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; the message says what is saved."""


class Stopper:
    """Raises `Interrupted` in the main thread at the first signal, once nothing is held.

    What must not be torn stands between `hold` and `release`: an update, whose old state is gone
    before the new one is there, or a save. In between two byte codes, anything else ends at once.

    agreed: in a run of several processes, whether all of them know that one was asked to stop. They
    stop together, at the first `check` or `release` from there on, and nowhere else.
    """

    def __init__(self, agreed: Callable[[], bool] | None = None) -> None:
        self._asked = threading.Event()
        self._alone = agreed is None
        self._agreed = agreed or self._asked.is_set
        self._held = False

    @property
    def asked(self) -> bool:
        """Whether a signal came to this process."""
        return self._asked.is_set()

    def hold(self) -> None:
        """From here on a signal waits."""
        self._held = True

    def release(self) -> None:
        """Raises:
        Interrupted: a signal came meanwhile.
        """
        self._held = False
        self.check()

    def check(self) -> None:
        """For a signal whose exception was lost, as those are that are raised in a finaliser.

        Raises:
          Interrupted: the run was asked to stop, and nothing is held.
        """
        if self._agreed() and not self._held:
            raise Interrupted

    @contextlib.contextmanager
    def listening(self, tell: Callable[[str], None], farewell: Callable[[], str]) -> Iterator[None]:
        """Signals are heard inside; on the main thread only.

        `tell` and `farewell` are called from a thread of their own, so that the answer comes, and a
        second signal ends the process with `farewell()`, even while the main thread sits in a long
        compilation, where Python runs no handler.
        """
        heard, wake = socket.socketpair()
        wake.setblocking(False)
        # Behind everything else that Python hears: the byte is written by its C handler.
        old_wake = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        old = {number: signal.signal(number, self._handle) for number in STOPPING}
        answer = threading.Thread(
            target=_answer, args=(heard, tell, farewell), name="signals", daemon=True
        )
        answer.start()
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wake)
            wake.close()
            answer.join()
            heard.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
        if self._alone:
            self.check()


def _answer(heard: socket.socket, tell: Callable[[str], None], farewell: Callable[[], str]) -> None:
    """Reads the numbers of signals until the other end is closed."""
    count = 0
    while received := heard.recv(64):
        for number in received:
            if number not in STOPPING:
                continue
            count += 1
            if count == 1:
                tell("stopping; once more to end at once, without saving")
            else:
                end_at_once(farewell(), 1)


def end_at_once(line: str, code: int, then: Callable[[], None] = lambda: None) -> NoReturn:
    """Ends the process from any thread, whatever the others do: a last line, then `then`."""
    if sys.stderr.isatty():
        print(_SHOW_CURSOR, end="", file=sys.stderr)
    print(f"azr: {line}", file=sys.stderr, flush=True)
    then()
    os._exit(code)
