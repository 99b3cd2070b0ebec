"""GPU's kernels, as far as a CPU can tell: interpreted, lowered, and what they are told."""

from __future__ import annotations

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from azr_jax.model import attention, backend, cudnn, flash_decode


def dense(*args: jax.Array) -> np.ndarray:
    with backend.compiling_for("tpu"):  # keys lie as on GPU there
        return np.asarray(attention.cached(*args), np.float32)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "head_dim", "dtype", "error"),
    [
        (14, 2, 384, 64, jnp.float32, 1e-6),
        (7, 1, 256, 64, jnp.bfloat16, 1e-2),
    ],
)
def test_flash_decode_is_attention_over_the_written_entries(
    heads: int, kv_heads: int, size: int, head_dim: int, dtype: jnp.dtype, error: float
) -> None:
    q, k, v = jax.random.split(jax.random.key(0), 3)
    length = jnp.array([1, size, size // 2 + 3, 128, 129])
    queries = jax.random.normal(q, (5, heads, head_dim), dtype)
    keys = jax.random.normal(k, (5, kv_heads, size, head_dim), dtype)
    # What stands past the end of a row may be anything that is finite.
    keys = jnp.where(jnp.arange(size)[:, None] < length[:, None, None, None], keys, 1e4)
    values = jax.random.normal(v, keys.shape, dtype)
    found = jax.jit(flash_decode.attention)(queries, keys, values, length)
    np.testing.assert_allclose(
        np.asarray(found, np.float32), dense(queries, keys, values, length), atol=error
    )


def test_decode_lowers_to_the_kernel_on_gpu() -> None:
    shapes = ((64, 28, 128), (64, 4, 2048, 128), (64, 4, 2048, 128))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    with backend.compiling_for("gpu"):
        traced = jax.jit(attention.cached).trace(*arguments, jax.ShapeDtypeStruct((64,), jnp.int32))
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "flash_decode" in text


@given(st.lists(st.lists(st.integers(1, 7), max_size=6), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_runs_are_the_segments_of_a_packed_row(rows: list[list[int]]) -> None:
    time, most = 48, 8
    segments = np.zeros((len(rows), time), np.int32)
    for row, lengths in zip(segments, rows, strict=True):
        ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)
        row[: len(ids)] = ids
    starts, lengths_found = cudnn.runs(jnp.asarray(segments), most)
    for row, first, length in zip(rows, np.asarray(starts), np.asarray(lengths_found), strict=True):
        expected = [*row, time - sum(row)]  # padding is the last run
        count = len(expected)
        assert first[:count].tolist() == np.cumsum([0, *row]).tolist()
        assert length[:count].tolist() == expected
        assert (first[count:] == -1).all() and (length[count:] == -1).all()
