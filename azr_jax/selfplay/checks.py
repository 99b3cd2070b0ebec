"""Verdicts on completions: each is found by one process of a run, and known to all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from azr_jax.selfplay.state import Answer, Pending, Proposal, Request


class Peers(Protocol):
    """The processes of a run: `gather` returns what each of them gave, by index, to all."""

    @property
    def index(self) -> int: ...
    @property
    def count(self) -> int: ...
    def gather(self, value: Any, doing: str) -> list[Any]: ...


class Alone:
    """A run of one process."""

    index, count = 0, 1

    def gather(self, value: Any, doing: str) -> list[Any]:
        return [value]


class Checks:
    """The checks of one batch of completions, told apart by number.

    All processes submit all completions; number n is checked by process n modulo their count.
    Submit while others still decode, and ask for `results` once, on all processes.
    """

    def __init__(self, submit: Callable[[Request, str], Pending[Any]], peers: Peers) -> None:
        self._submit, self._peers = submit, peers
        self._all: dict[int, tuple[Request, str]] = {}
        self._mine: dict[int, Pending[Any]] = {}

    def submit(self, number: int, request: Request, text: str) -> None:
        self._all[number] = request, text
        if number % self._peers.count == self._peers.index:
            self._mine[number] = self._submit(request, text)

    def results(self) -> dict[int, Any]:
        """A Proposal or an Answer for every number, in ascending order."""
        found = {number: check.result().to_json() for number, check in self._mine.items()}
        gathered: dict[int, Any] = {}
        for rows in self._peers.gather([*found.items()], "gathering verdicts"):
            gathered.update((number, row) for number, row in rows)
        results: dict[int, Any] = {}
        for number, (request, text) in sorted(self._all.items()):
            kind = Proposal if request.role == "propose" else Answer
            results[number] = kind.from_json(request, text, gathered[number])
        return results
