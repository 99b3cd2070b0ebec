"""Packing: samples of any length into one batch of static shape. NumPy only.

A row of the batch holds several sequences one after the other, each a prompt with some of its
samples. The prompt is stored once a row and its samples branch off it (see `Layout`): eight samples
of a long prompt cost little more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.struct
import numpy as np
from jaxtyping import Array, Float, Int

from azr_jax.model.attention import Layout, Mask
from azr_jax.model.cudnn import MAX_SEGMENTS


@dataclass(frozen=True)
class Sample:
    """One completion to learn from.

    `prompt` and `completion` are token ids, neither empty. `behaviour_logp` holds the sampler's
    log-probability, in nats, of each completion token at the sampling temperature. `advantage` is
    the same for all its tokens. `group` indexes the per-group coefficients of the loss. `weight`
    becomes its tokens' mask; a sample of weight 0 is left out of the batch.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    behaviour_logp: tuple[float, ...]
    advantage: float = 0.0
    group: int = 0
    weight: float = 1.0


@flax.struct.dataclass
class Batch:
    """Packed samples; `targets[b, t]` is the token that follows `tokens[b, t]` in its branch.

    `mask` is the weight of a target in the loss: 0 unless it is a completion token.
    """

    tokens: Int[Array, "b t"]
    layout: Layout
    targets: Int[Array, "b t"]
    mask: Float[Array, "b t"]
    behaviour_logp: Float[Array, "b t"]
    advantage: Float[Array, "b t"]
    group: Int[Array, "b t"]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, tokens a row), padding included."""
        rows, time = self.tokens.shape
        return rows, time


@dataclass(frozen=True)
class Fill:
    """How full a batch is. `fraction` is of the used rows' tokens; empty rows cost no compute."""

    rows: int
    used_rows: int
    row_tokens: int
    tokens: int
    trained_tokens: int

    @property
    def fraction(self) -> float:
        return self.tokens / (self.used_rows * self.row_tokens) if self.used_rows else 0.0


_LAYOUT = ("positions", "segments", "branches")
_DTYPES = {
    **dict.fromkeys(("tokens", "targets", "group", *_LAYOUT), np.int32),
    **dict.fromkeys(("mask", "behaviour_logp", "advantage"), np.float32),
}


@dataclass(frozen=True)
class _Piece:
    """Samples of one prompt that stand in the same row, as indices into the list of samples."""

    members: tuple[int, ...]
    size: int


def pack(
    samples: Sequence[Sample],
    row_tokens: int | Sequence[int],
    *,
    rows: int = 0,
    multiple: int = 1,
    share_prompts: bool = True,
) -> Batch:
    """Packs samples first-fit-decreasing into rows of one static length.

    A prompt's last token starts every branch and a completion's last token is only ever a target,
    so k samples of a prompt take len(prompt) - 1 + sum(len(completion)) tokens. Prompt groups that
    exceed a row are split, and repeat the prefix.

    Args:
      samples: what to pack; empty gives an all-empty batch.
      row_tokens: the row length, or several to choose from: the shortest that holds the longest
        sample is used.
      rows: at least so many rows, the rest empty: a constant here keeps the shape static.
      multiple: the number of rows is rounded up to a multiple of this (rows of a micro-batch times
        data shards).
      share_prompts: False repeats the prompt with every sample, for kernels that know no branches.

    Raises:
      ValueError: a sample that is malformed or longer than the longest row.
    """
    buckets = sorted({row_tokens} if isinstance(row_tokens, int) else set(row_tokens))
    if not buckets or buckets[0] < 1 or multiple < 1:
        raise ValueError(f"row_tokens {buckets} and multiple {multiple} must be positive")
    for index, sample in enumerate(samples):
        _check(index, sample, buckets[-1])
    kept = [index for index, sample in enumerate(samples) if sample.weight]
    longest = max((_length(samples[index]) for index in kept), default=0)
    time = next(bucket for bucket in buckets if bucket >= longest)
    # One more is the padding of a row.
    placed = _first_fit(_pieces(samples, kept, time, share_prompts), time, most=MAX_SEGMENTS - 1)
    needed = max(rows, len(placed), 1)
    shape = (-(-needed // multiple) * multiple, time)
    arrays = {name: np.zeros(shape, dtype) for name, dtype in _DTYPES.items()}
    for row, pieces in enumerate(placed):
        _fill_row({name: array[row] for name, array in arrays.items()}, pieces, samples)
    columns: dict[str, Any] = arrays
    mask: Mask = "branches" if share_prompts else "segments"
    layout = Layout(**{name: columns.pop(name) for name in _LAYOUT}, mask=mask)
    return Batch(layout=layout, **columns)


def fill(batch: Batch) -> Fill:
    """Counts of what a packed batch holds."""
    used = np.asarray(batch.layout.segments) > 0
    return Fill(
        rows=batch.shape[0],
        used_rows=int(used.any(axis=1).sum()),
        row_tokens=batch.shape[1],
        tokens=int(used.sum()),
        trained_tokens=int((np.asarray(batch.mask) > 0).sum()),
    )


def _length(sample: Sample) -> int:
    """Tokens the sample takes in a row of its own."""
    return len(sample.prompt) - 1 + len(sample.completion)


def _check(index: int, sample: Sample, longest: int) -> None:
    prompt, completion = len(sample.prompt), len(sample.completion)
    if not prompt or not completion:
        raise ValueError(
            f"sample {index}: prompt ({prompt} tokens) and completion ({completion}) must not be "
            "empty"
        )
    if len(sample.behaviour_logp) != completion:
        raise ValueError(
            f"sample {index}: {len(sample.behaviour_logp)} log-probs for {completion} completion "
            "tokens"
        )
    if not (np.isfinite(sample.weight) and sample.weight >= 0):
        raise ValueError(f"sample {index}: weight {sample.weight} must be finite and >= 0")
    if _length(sample) > longest:
        raise ValueError(
            f"sample {index}: prompt of {prompt} + completion of {completion} tokens needs "
            f"{_length(sample)}, a row holds {longest}"
        )


def _pieces(
    samples: Sequence[Sample], kept: Iterable[int], time: int, share_prompts: bool
) -> list[_Piece]:
    """Prompt groups, split where one exceeds a row; or every sample for itself."""
    groups: dict[Any, list[int]] = {}
    for index in kept:
        groups.setdefault(samples[index].prompt if share_prompts else index, []).append(index)
    pieces = []
    for members in groups.values():
        prefix = len(samples[members[0]].prompt) - 1
        sizes = [_Piece((m,), len(samples[m].completion)) for m in members]
        for part in _first_fit(sizes, time - prefix):
            together = tuple(sorted(m for piece in part for m in piece.members))
            pieces.append(_Piece(together, prefix + sum(piece.size for piece in part)))
    return pieces


def _first_fit(
    pieces: Sequence[_Piece], capacity: int, most: int | None = None
) -> list[list[_Piece]]:
    """First-fit-decreasing bin packing, of up to `most` pieces a bin.

    Ties keep their order, so the result is reproducible.
    """
    bins: list[list[_Piece]] = []
    free = np.zeros(len(pieces), np.int64)
    for piece in sorted(pieces, key=lambda piece: -piece.size):
        fits = free[: len(bins)] >= piece.size
        chosen = int(fits.argmax()) if fits.any() else len(bins)
        if chosen == len(bins):
            bins.append([])
            free[chosen] = capacity
        bins[chosen].append(piece)
        free[chosen] = 0 if len(bins[chosen]) == most else free[chosen] - piece.size
    return bins


def _fill_row(
    row: dict[str, np.ndarray], pieces: Sequence[_Piece], samples: Sequence[Sample]
) -> None:
    """Writes the pieces into one row, in place."""
    start = 0
    for segment, piece in enumerate(pieces, start=1):
        prompt = samples[piece.members[0]].prompt
        prefix = len(prompt) - 1
        row["segments"][start : start + piece.size] = segment
        at = slice(start, start + prefix)
        row["tokens"][at] = prompt[:-1]
        row["targets"][at] = prompt[1:]
        row["positions"][at] = np.arange(prefix)
        start += prefix
        for branch, member in enumerate(piece.members, start=1):
            sample = samples[member]
            length = len(sample.completion)
            at = slice(start, start + length)
            row["tokens"][at] = (prompt[-1], *sample.completion[:-1])
            row["targets"][at] = sample.completion
            row["positions"][at] = np.arange(prefix, prefix + length)
            row["branches"][at] = branch
            row["mask"][at] = sample.weight
            row["behaviour_logp"][at] = sample.behaviour_logp
            row["advantage"][at] = sample.advantage
            row["group"][at] = sample.group
            start += length
