"""The sampler's host side: which completion sits in which row, and when it ends. Imports no jax.

Every decision is a function of the prompts and of token counts: every process of a multi-host run
makes the same ones, and none depends on time.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from azr_jax.model.tokenizer import Tokenizer

StopReason = Literal["eos", "stop_string", "length"]


@dataclass(frozen=True)
class Prompt:
    """Token ids to continue `samples` times.

    `stream` keys its randomness, with the seed, the sample number and the token position: two
    prompts of one call may not share it. `max_new_tokens` lowers the call's limit for this prompt.
    """

    tokens: tuple[int, ...]
    samples: int = 1
    stream: tuple[int, ...] = ()
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Completion:
    """One sample of `prompts[prompt]`: the stop token is part of it, eos is not in its text.

    `text` is what the tokens add to the prompt's text: a blank in front is part of it.
    """

    prompt: int
    sample: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: StopReason
    text: str


def row_key(seed: int, stream: tuple[int, ...], sample: int) -> tuple[int, int]:
    """Two 32-bit words: the key of every draw of one completion, but for the token position."""
    name = ",".join(map(str, (seed, *stream, sample)))
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


class Stops:
    """What ends a completion: eos and stop strings of one token on device, other strings here.

    `is_complete` has the last word on stop strings: given the text up to one, it says whether the
    completion ends there (default: it does). What it says yes to it must say yes to however the
    text goes on. The device stops at a one-token string before it is asked; the row then goes on.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        strings: Sequence[str],
        is_complete: Callable[[str], bool] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._is_complete = is_complete
        self.eos_ids = tokenizer.eos_ids
        self._before = tokenizer.encode("a")
        self._text_before = tokenizer.decode(self._before)
        encoded = {text: tokenizer.encode(text) for text in strings if text}
        self.token_ids = (
            *self.eos_ids,
            *(ids[0] for text, ids in encoded.items() if self._is_token(text, ids)),
        )
        self.strings = tuple(t for t, ids in encoded.items() if not self._is_token(t, ids))

    def _is_token(self, text: str, ids: list[int]) -> bool:
        # Encoded alone, a word may get a blank in front: that id does not say the string. And a
        # tokenizer may leave special tokens out of its text.
        return len(ids) == 1 and self._added(ids) in (text, "")

    def reason(self, token: int) -> StopReason | None:
        if token in self.eos_ids:
            return "eos"
        return "stop_string" if token in self.token_ids else None

    def first_end(self, tokens: Sequence[int], old: int) -> int | None:
        """Number of tokens at which a stop string is complete, if one of tokens[old:] ends it.

        Looks for the string in a window that reaches back to where it could begin; the whole is
        decoded only where it is there.
        """
        if not self.strings:
            return None
        start = self._window(tokens, old)

        def ends(count: int) -> bool:
            text = self._added(tokens[start:count])
            found = any(string in text for string in self.strings)
            return found and self.completes(tokens[:count])

        if not ends(len(tokens)):
            return None
        return bisect.bisect_left(range(len(tokens)), True, lo=old + 1, key=ends)

    def _window(self, tokens: Sequence[int], old: int) -> int:
        """Where a stop string may begin that one of tokens[old:] ends, at the start of a character.

        A token may add nothing, and the bytes of a cut character may spoil those behind it.
        """
        # Half a character at the end may be shown as three.
        reach = max(map(len, self.strings)) + 3
        back = reach
        while back < old:
            text = self._added(tokens[old - back : old])
            if len(text) >= reach and not text.startswith("\ufffd"):
                return old - back
            back *= 2
        return 0

    def completes(self, tokens: Sequence[int]) -> bool:
        """Whether a completion with these tokens, the last of a stop string's, ends there."""
        return self._is_complete is None or self._is_complete(self.text(tokens))

    def text(self, tokens: Sequence[int]) -> str:
        """What a completion adds to the text of its prompt, without eos."""
        ended = bool(tokens) and tokens[-1] in self.eos_ids
        return self._added(tokens[:-1] if ended else tokens)

    def _added(self, tokens: Sequence[int]) -> str:
        """What tokens add to a text: decoded alone, SentencePiece drops the blank they begin with.

        Any text before them will do, as prompts and windows end with whole characters.
        """
        return self._tokenizer.decode([*self._before, *tokens]).removeprefix(self._text_before)


@dataclass(slots=True)
class Row:
    """A completion in the making."""

    prompt: int
    sample: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None


class Schedule:
    """Rows of the decode batch, the queue that fills them, and the arrays that drive the device.

    `token` [b] is the token to feed next, at `position` [b]; its successor stands at most at
    `limit` [b]; `key` [b, 2] keys its draws; `active` [b] tells live rows from idle ones.
    """

    def __init__(
        self, prompts: Sequence[Prompt], *, rows: int, new_tokens: int, seed: int, stops: Stops
    ) -> None:
        self._prompts = prompts
        self._queue = [(p, s) for p, prompt in enumerate(prompts) for s in range(prompt.samples)]
        self._placed = 0
        self._new_tokens = new_tokens
        self._seed = seed
        self._stops = stops
        self.rows: list[Row | None] = [None] * rows
        self.token: Int[np.ndarray, "b"] = np.zeros(rows, np.int32)
        self.position: Int[np.ndarray, "b"] = np.zeros(rows, np.int32)
        self.limit: Int[np.ndarray, "b"] = np.zeros(rows, np.int32)
        self.key: Int[np.ndarray, "b 2"] = np.zeros((rows, 2), np.uint32)

    @property
    def waiting(self) -> int:
        return len(self._queue) - self._placed

    @property
    def active(self) -> np.ndarray:
        return np.array([row is not None for row in self.rows])

    def ahead(self, count: int) -> list[int]:
        """Up to `count` prompts that the queue reaches first."""
        found: dict[int, None] = {}
        for prompt, _ in islice(self._queue, self._placed, None):
            if prompt not in found and len(found) == count:
                break
            found[prompt] = None
        return list(found)

    def place(self) -> list[tuple[int, int]]:
        """Fill idle rows from the queue, both in index order: (row, prompt) of each."""
        placed = []
        for index, row in enumerate(self.rows):
            if row is not None or not self.waiting:
                continue
            prompt, sample = self._queue[self._placed]
            self._placed += 1
            self.rows[index] = Row(prompt, sample)
            asked = self._prompts[prompt]
            most = asked.max_new_tokens or self._new_tokens
            self.token[index] = asked.tokens[-1]
            self.position[index] = len(asked.tokens) - 1
            self.limit[index] = self.position[index] + min(most, self._new_tokens)
            self.key[index] = row_key(self._seed, asked.stream, sample)
            placed.append((index, prompt))
        return placed

    def cache_needed(self, steps: int) -> int:
        """Cache entries that `steps` more tokens of the live rows reach."""
        return int((np.minimum(self.position + steps, self.limit) * self.active).max())

    def shrink(self, groups: int, size: int) -> Int[np.ndarray, "groups rows"] | None:
        """Keep `size` rows, the live ones among them, dropping idle ones in each of `groups`.

        Returns which row of its group each kept one was; None if some group's live rows exceed
        its share.
        """
        active = self.active.reshape(groups, -1)
        if active.sum(axis=1).max() > size // groups:
            return None
        kept = np.sort(np.argsort(~active, axis=1, kind="stable")[:, : size // groups], axis=1)
        flat = (kept + np.arange(groups)[:, None] * active.shape[1]).ravel()
        self.rows = [self.rows[i] for i in flat]
        self.token, self.position = self.token[flat], self.position[flat]
        self.limit, self.key = self.limit[flat], self.key[flat]
        return kept.astype(np.int32)

    def absorb(
        self, tokens: Int[np.ndarray, "b n"], logprobs: Float[np.ndarray, "b n"]
    ) -> list[Row]:
        """Take in one slice (-1: no token); free and return the rows that ended, in queue order."""
        counts = (tokens >= 0).sum(axis=1)
        ended = []
        for index, row in enumerate(self.rows):
            count = int(counts[index])
            if row is None or not count:
                continue
            old = len(row.tokens)
            row.tokens += tokens[index, :count].tolist()
            row.logprobs += logprobs[index, :count].tolist()
            self.token[index] = row.tokens[-1]
            self.position[index] += count
            row.stop = self._stops.reason(row.tokens[-1])
            if row.stop == "stop_string" and not self._stops.completes(row.tokens):
                row.stop = None
            if row.stop is None and self.position[index] >= self.limit[index]:
                row.stop = "length"
            end = self._stops.first_end(row.tokens, old)
            if end is not None and (end < len(row.tokens) or row.stop != "eos"):
                del row.tokens[end:], row.logprobs[end:]
                row.stop = "stop_string"
            if row.stop is not None:
                self.rows[index] = None
                ended.append(row)
        return sorted(ended, key=lambda row: (row.prompt, row.sample))
