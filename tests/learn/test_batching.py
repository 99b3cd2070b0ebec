"""Packing keeps every token of every sample, wherever it puts them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.learn.batching import Batch, Sample, fill, pack
from azr_jax.model.cudnn import MAX_SEGMENTS

ids = st.integers(1, 50)
ROW = 24


@st.composite
def sample_lists(draw: st.DrawFn) -> list[Sample]:
    """Few prompts, so that samples share them; every sample fits a row of 24."""
    prompts = draw(st.lists(st.lists(ids, min_size=1, max_size=10), min_size=1, max_size=4))
    samples = []
    for _ in range(draw(st.integers(0, 16))):
        completion = draw(st.lists(ids, min_size=1, max_size=15))
        samples.append(
            sample(draw(st.sampled_from(prompts)), completion, group=draw(st.integers(0, 5)))
        )
    return samples


def sample(prompt: list[int], completion: list[int], group: int = 0, weight: float = 1.0) -> Sample:
    logp = tuple(-0.1 * token for token in completion)
    return Sample(tuple(prompt), tuple(completion), logp, sum(completion) / 7, group, weight)


def unpack(batch: Batch) -> list[tuple[tuple[int, ...], tuple[int, ...], float, int]]:
    """Every branch of every row, read back along its path: what the model would see."""
    found = []
    layout = batch.layout
    for row in range(batch.shape[0]):
        for segment in range(1, layout.segments[row].max() + 1):
            of_segment = layout.segments[row] == segment
            branches = layout.branches[row]
            for branch in range(1, branches[of_segment].max() + 1):
                path = np.flatnonzero(of_segment & ((branches == 0) | (branches == branch)))
                own = path[branches[path] == branch]
                tokens, targets = batch.tokens[row, path], batch.targets[row, path]
                np.testing.assert_array_equal(targets[:-1], tokens[1:])
                np.testing.assert_array_equal(layout.positions[row, path], np.arange(len(path)))
                assert (batch.mask[row, own] == 1).all()
                assert not batch.mask[row, path[branches[path] == 0]].any()
                prompt = tuple(tokens[: len(path) - len(own) + 1].tolist())
                completion = tuple(batch.targets[row, own].tolist())
                np.testing.assert_allclose(
                    batch.behaviour_logp[row, own], [-0.1 * t for t in completion], rtol=1e-6
                )
                (advantage,), (group,) = (
                    set(x[row, own].tolist()) for x in (batch.advantage, batch.group)
                )
                found.append((prompt, completion, advantage, group))
    return found


@given(sample_lists(), st.integers(1, 4))
def test_every_sample_comes_back_once(samples: list[Sample], multiple: int) -> None:
    batch = pack(samples, ROW, multiple=multiple)
    expected = [(s.prompt, s.completion, float(np.float32(s.advantage)), s.group) for s in samples]
    assert sorted(unpack(batch)) == sorted(expected)
    assert batch.shape[0] % multiple == 0
    assert batch.mask.sum() == sum(len(s.completion) for s in samples)
    assert not batch.tokens[batch.layout.segments == 0].any()


@given(sample_lists())
def test_a_prompt_stands_once_in_a_row(samples: list[Sample]) -> None:
    """… and a group that fits a row is not split over several."""
    batch = pack(samples, ROW)
    cost: dict[tuple[int, ...], int] = {}
    for s in samples:
        cost[s.prompt] = cost.get(s.prompt, len(s.prompt) - 1) + len(s.completion)
    segments = sum(int(row.max()) for row in batch.layout.segments)
    fitting = sum(size <= ROW for size in cost.values())
    pieces_at_most = fitting + sum(len(samples) for size in cost.values() if size > ROW)
    assert len(cost) <= segments <= pieces_at_most
    if fitting == len(cost):
        assert fill(batch).tokens == sum(cost.values())


def test_eight_samples_share_their_prompt() -> None:
    report = fill(pack([sample([*range(1, 11)], [i, i]) for i in range(1, 9)], 32))
    assert (report.used_rows, report.tokens, report.trained_tokens) == (1, 9 + 16, 16)
    assert report.fraction == pytest.approx(25 / 32)


@given(sample_lists())
def test_unshared_prompts_stand_with_every_sample(samples: list[Sample]) -> None:
    batch = pack(samples, ROW, share_prompts=False)
    expected = [(s.prompt, s.completion, float(np.float32(s.advantage)), s.group) for s in samples]
    assert sorted(unpack(batch)) == sorted(expected)
    assert batch.layout.branches.max() <= 1 and batch.layout.mask == "segments"


def test_a_group_too_large_is_split_and_repeats_its_prefix() -> None:
    report = fill(pack([sample([1, 2, 3], [4, 5, 6, 7]) for _ in range(4)], 12))
    assert (report.used_rows, report.tokens) == (2, 2 * (2 + 8))


def test_shortest_bucket_that_holds_the_longest_sample() -> None:
    assert pack([sample([1], [2] * 9)], (8, 16, 32)).shape == (1, 16)
    assert pack([sample([1], [2] * 8)], (32, 16, 8)).shape == (1, 8)


def test_rows_are_static() -> None:
    assert pack([sample([1], [2])], 8, rows=5, multiple=4).shape == (8, 8)


def test_empty_list_is_an_empty_batch() -> None:
    batch = pack([], (8, 16), multiple=2)
    assert batch.shape == (2, 8)
    assert not batch.mask.any() and fill(batch).fraction == 0.0


def test_weight_zero_is_left_out_and_others_become_the_mask() -> None:
    batch = pack([sample([1], [2, 3], weight=0.0), sample([4], [5, 6], weight=0.5)], 8)
    assert batch.mask.sum() == 1.0
    assert fill(batch).tokens == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sample([1] * 5, [2] * 6), "sample 1: prompt of 5 . completion of 6 tokens needs 10"),
        (sample([], [2]), "sample 1: prompt"),
        (sample([1], []), "sample 1: prompt"),
        (Sample((1,), (2, 3), (0.0,)), "sample 1: 1 log-probs for 2"),
        (sample([1], [2], weight=-1.0), "sample 1: weight"),
    ],
)
def test_a_bad_sample_is_named(bad: Sample, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack([sample([1], [2]), bad], 8)


def test_no_row_has_more_segments_than_fused_attention_takes() -> None:
    samples = [Sample((i,), (1,), (0.0,)) for i in range(1, 100)]
    segments = pack(samples, 256, share_prompts=False).layout.segments
    runs = [len(np.unique(row)) for row in segments]
    assert max(runs) == MAX_SEGMENTS and len(runs) == -(-99 // (MAX_SEGMENTS - 1))
