"""The host side of the sampler: refill order, stops, shrinking. No device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.model.scheduler import Prompt, Schedule, Stops, row_key
from azr_jax.selfplay.parse import well_formed


class Letters:
    """Ids are letters; 1 is eos and decodes to nothing; `</answer>` is id 2."""

    vocab_size, eos_id, eos_ids, pad_id = 128, 1, (1,), 0

    def encode(self, text: str) -> list[int]:
        return [2] if text == "</answer>" else [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("</answer>" if i == 2 else chr(i) for i in ids if i == 2 or i > 2)


def _schedule(prompts: list[Prompt], rows: int = 3, strings: tuple[str, ...] = ()) -> Schedule:
    stops = Stops(Letters(), strings)
    return Schedule(prompts, rows=rows, new_tokens=8, seed=0, stops=stops)


def _prompts(*samples: int) -> list[Prompt]:
    return [Prompt((5,) * (i + 1), n, (i,)) for i, n in enumerate(samples)]


def _feed(schedule: Schedule, per_row: list[list[int]]) -> list[tuple[int, int, str | None, int]]:
    tokens = np.full((len(per_row), max(map(len, per_row))), -1, np.int32)
    for row, ids in enumerate(per_row):
        tokens[row, : len(ids)] = ids
    ended = schedule.absorb(tokens, np.zeros(tokens.shape, np.float32))
    return [(row.prompt, row.sample, row.stop, len(row.tokens)) for row in ended]


def test_rows_fill_in_index_order_and_refill_as_they_end() -> None:
    schedule = _schedule(_prompts(2, 0, 1, 2))
    assert schedule.place() == [(0, 0), (1, 0), (2, 2)]
    assert schedule.place() == []
    assert schedule.ahead(5) == [3]
    assert _feed(schedule, [[7, 8], [7, 1], [7, 8]]) == [(0, 1, "eos", 2)]
    assert schedule.place() == [(1, 3)]
    assert schedule.position.tolist() == [2, 3, 4]
    assert schedule.cache_needed(2) == 6
    assert schedule.waiting == 1


def test_length_stop_and_limit() -> None:
    schedule = _schedule(_prompts(1), rows=1)
    schedule.place()
    assert _feed(schedule, [[7] * 5]) == []
    assert schedule.cache_needed(100) == 8
    assert _feed(schedule, [[7] * 3]) == [(0, 0, "length", 8)]
    assert not schedule.active.any()


def test_stop_string_of_one_token_stops_on_device() -> None:
    stops = Stops(Letters(), ("</answer>", "END"))
    assert stops.token_ids == (1, 2)
    assert stops.strings == ("END",)
    assert stops.reason(2) == "stop_string"
    assert stops.reason(1) == "eos"


def test_general_stop_string_truncates_where_it_is_complete() -> None:
    schedule = _schedule(_prompts(1, 1, 1), strings=("END",))
    schedule.place()
    word = [ord(c) for c in "END"]
    assert _feed(schedule, [[70, 69], word, [69]]) == [(1, 0, "stop_string", 3)]
    schedule.place()
    # Split over slices; then eos after the string is complete; then text that only looks alike.
    ended = _feed(schedule, [[*word[1:], 70, 1], [], [*word[1:2], 70]])
    assert ended == [(0, 0, "stop_string", 4)]


def test_eos_wins_over_a_string_that_is_never_complete() -> None:
    schedule = _schedule(_prompts(1), rows=1, strings=("END",))
    schedule.place()
    assert _feed(schedule, [[69, 78, 1]]) == [(0, 0, "eos", 3)]


@pytest.mark.parametrize("one_token", [True, False])
@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_stop_string_among_the_thoughts_ends_nothing(one_token: bool, cut: int) -> None:
    """One token that the device stops at, and a string that is split over tokens and slices."""
    tag = [2] if one_token else [ord(c) for c in "</answer >"]
    strings = ("</answer>",) if one_token else ("</answer >",)
    stops = Stops(
        Letters(), strings, lambda text: well_formed(text.replace("</answer >", "</answer>"))
    )
    written = [*map(ord, "I close "), *tag, *map(ord, " so</think>\n<answer>5"), *tag]
    schedule = Schedule(_prompts(1), rows=1, new_tokens=100, seed=0, stops=stops)
    schedule.place()
    ended, position = [], 0
    while not ended and position < len(written):
        piece = written[position : position + cut]
        if 2 in piece:
            piece = piece[: piece.index(2) + 1]  # the device stops there
        position += len(piece)
        more = [7, 8, 9] if position == len(written) and not one_token else []
        ended = _feed(schedule, [[*piece, *more]])
    assert ended == [(0, 0, "stop_string", len(written))]


def test_a_stop_string_that_completes_nothing_leaves_the_length_stop() -> None:
    stops = Stops(Letters(), ("</answer>",), is_complete=lambda text: False)
    schedule = Schedule(_prompts(1), rows=1, new_tokens=2, seed=0, stops=stops)
    schedule.place()
    assert _feed(schedule, [[7, 2]]) == [(0, 0, "length", 2)]


def test_text_leaves_eos_out() -> None:
    stops = Stops(Letters(), ("</answer>",))
    assert stops.text([65, 2]) == "A</answer>"
    assert stops.text([65, 1]) == "A"


def test_shrink_keeps_live_rows_of_every_group() -> None:
    schedule = _schedule(_prompts(8), rows=8)
    schedule.place()
    _feed(schedule, [[7], [1], [7], [1], [1], [1], [1], [7]])
    assert schedule.shrink(2, 2) is None
    kept = schedule.shrink(2, 4)
    assert kept is not None
    assert kept.tolist() == [[0, 2], [0, 3]]
    assert [row.sample if row else None for row in schedule.rows] == [0, 2, None, 7]
    assert len(schedule.token) == 4


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="abE", max_size=30), st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_any_cut_into_slices_finds_the_same_end(text: str, cuts: list[int]) -> None:
    stops = Stops(Letters(), ("abE", "Eb"))
    ids = [ord(c) for c in text]
    found = [text.find(s) + len(s) for s in stops.strings if s in text]
    wanted = min(found) if found else None
    old = 0
    for cut in cuts + [len(ids)] * 1:
        new = min(len(ids), old + cut)
        end = stops.first_end(ids[:new], old)
        if end is not None:
            assert end == wanted
            return
        old = new
    assert wanted is None


def test_row_keys_differ_by_every_part() -> None:
    keys = {
        row_key(0, (1, 2), 3),
        row_key(1, (1, 2), 3),
        row_key(0, (12,), 3),
        row_key(0, (1, 2), 4),
    }
    assert len(keys) == 4
    assert all(0 <= word < 2**32 for key in keys for word in key)
