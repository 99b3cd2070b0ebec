"""A thread that watches over a run: a heartbeat to the others, an eye on theirs, and on ourselves.

It ends the process with one line that names what was lost, where the main thread may wait for ever
in a collective operation. jax's own service would abort it later, and say less.
"""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from azr_jax.signals import end_at_once

RESUME = "the same command on all hosts goes on from the newest checkpoint"

_FOLDER = "azr/watch"
_LOOKS_PER_TIMEOUT = 15
_MOST_PAUSE_S = 2.0


class Client(Protocol):
    """What is used of jax's client of the coordination service."""

    def key_value_set_bytes(self, key: str, value: bytes, allow_overwrite: bool = ...) -> None: ...
    def key_value_dir_get_bytes(self, key: str) -> list[tuple[str, bytes]]: ...
    def key_value_delete(self, key: str) -> None: ...
    def blocking_key_value_get_bytes(self, key: str, timeout_in_ms: int) -> bytes: ...


class Watch:
    """Heartbeats, and the end of a process whose peers are lost or whose own step stalls.

    names: what to call each process. client: None in a run of one process, which has no peers.
    heartbeat_s: a process that is silent for longer is lost. stall_s: a process in which nothing
    moves for longer is ended, after all have shown their stacks; 0: never. Only time counts in
    which the watch itself runs: a process that was stopped or starved as a whole is not stalled.
    """

    def __init__(
        self, index: int, names: Sequence[str], client: Client | None, heartbeat_s: float
    ) -> None:
        self.index, self.names = index, list(names)
        self.stall_s = 0.0
        self.last_words: LastWords | None = None
        self._client, self._heartbeat_s = client, heartbeat_s
        self._pause_s = min(_MOST_PAUSE_S, heartbeat_s / _LOOKS_PER_TIMEOUT)
        self._doing, self._has_moved, self._still_s = "starting", True, 0.0
        self._looked = time.monotonic()
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._count = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        now = time.monotonic()
        self._seen = {i: (b"", now) for i in range(len(self.names)) if i != self.index}
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def moved(self, doing: str | None = None) -> None:
        """The main thread got on; `doing` names what it is at now."""
        self._has_moved = True
        self._doing = doing or self._doing

    def tell(self, word: str, text: str, code: int) -> None:
        """Leaves a word that ends the others with this text and exit code."""
        if self._client is not None:
            note = json.dumps({"word": word, "text": text, "code": code}).encode()
            self._client.key_value_set_bytes(f"{_FOLDER}/word/{self.index}", note, True)

    def linger(self) -> None:
        """Before this process ends: without process 0 the others cannot read why."""
        if self._client is not None and self.index == 0:
            time.sleep(3 * self._pause_s + 1)

    def wait_for_news(self) -> None:
        """Time enough to find out whether a peer is lost: if so, this does not return."""
        if self._client is not None:
            time.sleep(self._heartbeat_s + 3 * self._pause_s)

    # --- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.wait(self._pause_s):
            # Where the service itself does not answer, jax ends this process: see LastWords.
            try:
                self._look()
            except RuntimeError:
                continue

    def _look(self) -> None:
        now = time.monotonic()
        if self._client is not None:
            self._beat(self._client, now)
        self._still_s += min(now - self._looked, 2 * self._pause_s)
        self._looked = now
        if self._has_moved:
            self._has_moved, self._still_s = False, 0.0
        if self.stall_s and self._still_s > self.stall_s:
            text = (
                f"{self.names[self.index]} is stalled: nothing has moved for {self.stall_s:.0f} s "
                f"while {self._doing}"
            )
            self._dump(text)
            self._end("stalled", f"{text}; the stacks of all hosts are in their logs; {RESUME}")

    def _beat(self, client: Client, now: float) -> None:
        self._count += 1
        beat = str(self._count).encode()
        client.key_value_set_bytes(f"{_FOLDER}/beat/{self.index}", beat, True)
        for key, value in client.key_value_dir_get_bytes(f"{_FOLDER}/"):
            kind, _, number = key.removeprefix(f"{_FOLDER}/").partition("/")
            if int(number) == self.index:
                continue
            if kind == "word":
                self._heed(json.loads(value))
            elif self._seen[int(number)][0] != value:
                self._seen[int(number)] = value, now
        silent = [i for i, (_, since) in self._seen.items() if now - since > self._heartbeat_s]
        if silent:
            who = " and ".join(self.names[i] for i in silent)
            silence = f"no heartbeat for {self._heartbeat_s:.0f} s"
            self._end("lost", f"lost {who}: {silence} while {self._doing}; {RESUME}")

    def _heed(self, note: dict[str, Any]) -> None:
        if note["word"] == "stalled":
            self._dump(f"{self.names[self.index]}: {note['text']}; meanwhile here")
        self._leave(note["text"], note["code"])

    def _dump(self, text: str) -> None:
        print(f"azr: {text}:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)

    def _end(self, word: str, text: str) -> None:
        try:
            self.tell(word, text, 1)
        finally:
            self._leave(text, 1)

    def _leave(self, text: str, code: int) -> None:
        if self.last_words is not None:
            self.last_words.bye()
        end_at_once(text, code, self.linger)


class LastWords:
    """The other end of `last_words.py`, which is beside this process until its end."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("last_words.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a signal to the group of this process is none to it
        )

    def say(self, text: str, if_gone: str = "", coordinator: str = "") -> None:
        """What to say in case this process ends without a `bye`.

        if_gone: this instead, in case nothing listens at the coordinator (HOST:PORT) by then.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{text}\t{if_gone}\t{coordinator}\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # somebody killed it: the run matters more
            return

    def bye(self) -> None:
        """This process ends by itself, and has said why."""
        self.say("")
