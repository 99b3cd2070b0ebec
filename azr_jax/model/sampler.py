"""The transformer's own sampling loop: prefill, decode slices, slot refill, shared prefixes.

The device holds the KV cache of `slots` rows and runs slices of up to `slice_tokens` steps with no
host in between (`programs`); the host (`scheduler`) refills the rows that ended. A prompt is
prefilled once, and its keys and values are copied into the rows of all its samples. When the queue
is empty, the live rows are gathered into a smaller batch. On several hosts every process runs the
same schedule over the same replicated tokens.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh

from azr_jax.model.programs import Programs
from azr_jax.model.scheduler import Completion, Prompt, Row, Schedule, Stops
from azr_jax.model.sizes import SamplerConfig, Shape, shapes
from azr_jax.model.tokenizer import Tokenizer
from azr_jax.model.transformer import KVCache, Params, Transformer

__all__ = ["Completion", "Prompt", "Sampler", "SamplerConfig", "shapes"]

REFILL_SHARE = 8
"""A slice ends early once 1/8 of the rows can be refilled."""


@dataclass
class Counters:
    """Work done: decode steps, rows times steps, and tokens kept; prompts and padded tokens in.

    `host_s`: seconds between two slices, in which the device may have waited for the host.
    """

    steps: int = 0
    row_steps: int = 0
    tokens: int = 0
    prefilled_prompts: int = 0
    prefilled_tokens: int = 0
    host_s: float = 0.0


class Sampler:
    """Samples completions of prompts; one instance serves a whole run."""

    def __init__(
        self,
        model: Transformer,
        config: SamplerConfig,
        mesh: Mesh,
        tokenizer: Tokenizer,
        seed: int,
        valid_ids: int | None = None,
        is_complete: Callable[[str], bool] | None = None,
    ) -> None:
        """`valid_ids`: ids from here on are never sampled (default: the tokenizer's size).

        `is_complete`: whether a completion ends at a stop string, given its text up to there; see
        `Stops`.

        Raises:
          ValueError: when the slots do not divide over the mesh.
        """
        self.config, self.seed = config, seed
        self.counters = Counters()
        self._stops = Stops(tokenizer, config.stop_strings, is_complete)
        self.programs = Programs(
            model,
            config,
            mesh,
            stop_ids=self._stops.token_ids,
            valid_ids=tokenizer.vocab_size if valid_ids is None else valid_ids,
        )

    @property
    def late_compiles(self) -> int:
        """Programs compiled after `compile`."""
        return self.programs.late_compiles

    @property
    def compiled(self) -> int:
        """Programs compiled so far."""
        return self.programs.compiled

    def compile(self, params: Params, compiled: Callable[[], None] = lambda: None) -> None:
        """Compile every program. `params`: the parameters, or their shapes with shardings.

        `compiled` is called after each: all of them may take long.
        """
        self.programs.compile_all(params, compiled)

    def stream(
        self,
        params: Params,
        prompts: Sequence[Prompt],
        *,
        temperature: float,
        max_new_tokens: int | None = None,
    ) -> Iterator[Completion]:
        """Yield every completion as soon as its slice ends; (prompt, sample) order within a slice.

        The next slice already runs while the caller holds a completion. Temperature 0 is greedy.

        Raises:
          ValueError: before any device work, for a prompt that is empty or too long, two prompts
            with one stream, a negative temperature or too many new tokens.
        """
        new_tokens = self.config.max_new_tokens if max_new_tokens is None else max_new_tokens
        self._check(prompts, temperature, new_tokens)
        return self._drain(params, prompts, temperature, new_tokens)

    def _check(self, prompts: Sequence[Prompt], temperature: float, new_tokens: int) -> None:
        if not 1 <= new_tokens <= self.config.max_new_tokens:
            raise ValueError(
                f"max_new_tokens is {new_tokens}; SamplerConfig allows 1 to "
                f"{self.config.max_new_tokens}"
            )
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature must be 0 (greedy) or positive, not {temperature}")
        seen: dict[tuple[int, ...], int] = {}
        for index, prompt in enumerate(prompts):
            if not 1 <= len(prompt.tokens) <= self.config.max_prompt_tokens:
                raise ValueError(
                    f"prompt {index} has {len(prompt.tokens)} tokens; SamplerConfig."
                    f"max_prompt_tokens allows 1 to {self.config.max_prompt_tokens}"
                )
            if prompt.samples < 0:
                raise ValueError(f"prompt {index} asks for {prompt.samples} samples")
            if prompt.max_new_tokens is not None and prompt.max_new_tokens < 1:
                raise ValueError(f"prompt {index} asks for {prompt.max_new_tokens} new tokens")
            first = seen.setdefault(prompt.stream, index)
            if first != index:
                raise ValueError(
                    f"prompts {first} and {index} share the stream {prompt.stream}: "
                    "their samples would be drawn alike"
                )

    def _drain(
        self, params: Params, prompts: Sequence[Prompt], temperature: float, new_tokens: int
    ) -> Iterator[Completion]:
        schedule = Schedule(
            prompts,
            rows=self.config.slots,
            new_tokens=new_tokens,
            seed=self.seed,
            stops=self._stops,
        )
        if not schedule.waiting:
            return
        batch = _Batch(self.programs, self.programs.prepare(params), prompts, schedule)
        ended: list[Row] = []
        since = time.monotonic()
        while True:
            batch.refill(self.counters)
            if not schedule.active.any():
                break
            batch.shrink()
            fetch = batch.start_slice(temperature)
            self.counters.host_s += time.monotonic() - since
            # The device works on; what ended before is handed out meanwhile.
            for row in ended:
                yield self._completion(row)
            tokens, logprobs, steps = fetch()
            since = time.monotonic()
            self.counters.steps += steps
            self.counters.row_steps += steps * len(tokens)
            ended = schedule.absorb(tokens, logprobs)
            self.counters.tokens += sum(len(row.tokens) for row in ended)
        for row in ended:
            yield self._completion(row)

    def _completion(self, row: Row) -> Completion:
        assert row.stop is not None
        return Completion(
            prompt=row.prompt,
            sample=row.sample,
            tokens=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            stop=row.stop,
            text=self._stops.text(row.tokens),
        )


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """Where the keys and values of a prompt wait: a row of a prefilled chunk."""

    chunk: KVCache
    prompt_size: int
    row: int


class _Batch:
    """The decode batch of one drain on the device: its cache, and the prompts not yet used up."""

    def __init__(
        self, programs: Programs, weights: Params, prompts: Sequence[Prompt], schedule: Schedule
    ) -> None:
        self._programs, self._sizes = programs, programs.sizes
        self._weights, self._prompts, self._schedule = weights, prompts, schedule
        self._prefilled: dict[int, _Prefilled] = {}
        self._cache: KVCache | None = None
        self._rows, self._size = programs.config.slots, 0

    def refill(self, counters: Counters) -> None:
        """Fill idle rows from the queue, prefilling the prompts that are met for the first time."""
        schedule = self._schedule
        placed = schedule.place()
        if schedule.active.any():
            self._fit(schedule.cache_needed(self._programs.config.slice_tokens))
        if not placed:
            return
        self._prefill({prompt for _, prompt in placed}, counters)
        by_chunk: dict[int, list[tuple[int, _Prefilled]]] = defaultdict(list)
        for row, prompt in placed:
            source = self._prefilled[prompt]
            by_chunk[id(source.chunk)].append((row, source))
        for copies in by_chunk.values():
            self._insert(copies)
        ahead = set(schedule.ahead(len(self._prefilled)))
        self._prefilled = {p: kept for p, kept in self._prefilled.items() if p in ahead}

    def _fit(self, needed: int) -> None:
        """Give every row `needed` cache entries; a longer cache stays while the queue lasts."""
        if self._cache is None:
            self._size = next(size for size in self._sizes.cache if size >= needed)
            self._cache = self._programs.get(Shape("empty", self._rows, self._size))()
            return
        while self._size < needed:
            self._regroup(self._rows, self._sizes.cache[self._sizes.cache.index(self._size) + 1])
        if not self._schedule.waiting:
            while self._size != self._sizes.cache[0]:
                smaller = self._sizes.cache[self._sizes.cache.index(self._size) - 1]
                if smaller < needed:
                    break
                self._regroup(self._rows, smaller)

    def _regroup(self, rows: int, size: int, kept: np.ndarray | None = None) -> None:
        groups = self._programs.groups
        if kept is None:
            kept = np.tile(np.arange(rows // groups, dtype=np.int32), (groups, 1))
        program = self._programs.get(Shape("regroup", self._rows, self._size, 0, rows, size))
        self._cache = program(self._cache, kept)
        self._rows, self._size = rows, size

    def _prefill(self, wanted: set[int], counters: Counters) -> None:
        """Prompts in chunks of like lengths; the last chunk is filled with prompts to come."""
        new = sorted(wanted - self._prefilled.keys())
        chunk_rows = self._sizes.prefill_rows
        spare = -len(new) % chunk_rows
        if spare:
            coming = self._schedule.ahead(spare + len(self._prefilled) + 1)
            new += [p for p in coming if p not in self._prefilled and p not in wanted][:spare]
        new.sort(key=lambda p: len(self._prompts[p].tokens))
        for start in range(0, len(new), chunk_rows):
            self._prefill_chunk(new[start : start + chunk_rows])
            counters.prefilled_prompts += len(new[start : start + chunk_rows])
            counters.prefilled_tokens += chunk_rows * self._prefilled[new[start]].prompt_size

    def _prefill_chunk(self, prompts: list[int]) -> None:
        longest = max(len(self._prompts[p].tokens) for p in prompts)
        size = next(size for size in self._sizes.prompt if size >= longest)
        tokens = np.zeros((self._sizes.prefill_rows, size), np.int32)
        lengths = np.ones(self._sizes.prefill_rows, np.int32)
        for row, prompt in enumerate(prompts):
            ids = self._prompts[prompt].tokens
            tokens[row, : len(ids)] = ids
            lengths[row] = len(ids)
        chunk = self._programs.get(Shape("prefill", prompt=size))(self._weights, tokens, lengths)
        for row, prompt in enumerate(prompts):
            self._prefilled[prompt] = _Prefilled(chunk, size, row)

    def _insert(self, copies: list[tuple[int, _Prefilled]]) -> None:
        """Copy prompts of one chunk into rows, as many a call and group as the program takes."""
        groups, many = self._programs.groups, self._sizes.insert_rows
        per_group = self._rows // groups
        chunk, prompt_size = copies[0][1].chunk, copies[0][1].prompt_size
        program = self._programs.get(Shape("insert", self._rows, self._size, prompt_size))
        pending: list[list[tuple[int, int]]] = [[] for _ in range(groups)]
        for row, source in copies:
            pending[row // per_group].append((source.row, row % per_group))
        while any(pending):
            source_rows = np.zeros((groups, many), np.int32)
            target_rows = np.full((groups, many), per_group, np.int32)
            for group, queue in enumerate(pending):
                for column, (source_row, target_row) in enumerate(queue[:many]):
                    source_rows[group, column] = source_row
                    target_rows[group, column] = target_row
                del queue[:many]
            self._cache = program(self._cache, chunk, source_rows, target_rows)

    def shrink(self) -> None:
        """With an empty queue, gather the live rows into the smallest batch that holds them."""
        while not self._schedule.waiting and self._rows != self._sizes.slots[0]:
            rows = self._sizes.slots[self._sizes.slots.index(self._rows) - 1]
            kept = self._schedule.shrink(self._programs.groups, rows)
            if kept is None:
                return
            self._regroup(rows, self._size, kept)

    def start_slice(self, temperature: float) -> Callable[[], tuple[np.ndarray, np.ndarray, int]]:
        """Start a slice; the result waits for its tokens, log-probs and number of steps."""
        schedule = self._schedule
        program = self._programs.get(Shape("decode", self._rows, self._size))
        arguments: tuple[Any, ...] = (
            schedule.token.copy(),
            schedule.position.copy(),
            schedule.limit.copy(),
            schedule.key.copy(),
            schedule.active,
            np.int32(self._enough()),
            np.float32(temperature),
        )
        self._cache, tokens, logprobs, steps = program(self._weights, self._cache, *arguments)
        return lambda: (np.asarray(tokens), np.asarray(logprobs), int(steps))

    def _enough(self) -> int:
        """Live rows at which the slice ends early: to refill, or to go on in a smaller batch."""
        live = int(self._schedule.active.sum())
        if self._schedule.waiting:
            return min(live - 1, self._rows - max(1, self._rows // REFILL_SHARE))
        smaller = [rows for rows in self._sizes.slots if rows < self._rows and rows < live]
        return smaller[-1] if smaller else 0
