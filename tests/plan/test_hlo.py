"""Collectives read from the text of a compiled program."""

from __future__ import annotations

from azr_jax.plan.hlo import traffic

TEXT = """\
HloModule jit_step, entry_computation_layout={()->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body.1 (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %gathered = bf16[8,4]{1,0} all-gather(%x), dimensions={0}
  %inner = (s32[]) while(%t), condition=%cond.2, body=%body.2
}

%body.2 (p: (s32[])) -> (s32[]) {
  %reduced = f32[4]{0:T(256)} all-reduce(%y), to_apply=%add
}

%cond.1 (p: (s32[], f32[8,4])) -> pred[] {
}

%cond.2 (p: (s32[])) -> pred[] {
}

ENTRY %main (p: f32[8,4]) -> f32[] {
  %loop = (s32[], f32[8,4]) while(%init), condition=%cond.1, body=%body.1, \
backend_config={"known_trip_count":{"n":"3"}}
  %started = (f32[2]{0}, f32[8]{0}) all-gather-start(%z), dimensions={0}
  %ended = f32[8]{0} all-gather-done(%started)
  %both = (f32[2]{0}, u8[3]{0}) all-to-all(%u, %v)
}
"""


def test_counts_instructions_once() -> None:
    assert traffic(TEXT).counts == {"all-gather": 2, "all-reduce": 1, "all-to-all": 1}


def test_bytes_are_of_results_times_the_trips_of_loops() -> None:
    # A loop of 3 x 64 bytes, and 32 of the started one; the inner loop's trips are not known.
    expected = {"all-gather": 3 * 64 + 32, "all-reduce": 3 * 5 * 16, "all-to-all": 8 + 3}
    assert traffic(TEXT, unknown_trips=5).bytes == expected


def test_a_loop_that_counts_up_to_a_constant_has_so_many_trips() -> None:
    counted = TEXT.replace(
        "%cond.2 (p: (s32[])) -> pred[] {",
        "%cond.2 (p: (s32[])) -> pred[] {\n  %n = s32[]{:T(128)} constant(7)\n"
        "  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT",
    )
    assert traffic(counted, unknown_trips=5).bytes["all-reduce"] == 3 * 7 * 16


def test_one_channel_is_one_collective() -> None:
    line = "  %g = bf16[8]{0} all-gather(%x), channel_id=7, dimensions={0}\n"
    text = f"%piece (p: f32[8]) -> f32[8] {{\n{line}}}\n\nENTRY %main (p: f32[8]) -> f32[8] {{\n"
    found = traffic(f"{text}  %f = f32[8] fusion(%p), calls=%piece\n{line}}}\n")
    assert found.counts == {"all-gather": 1} and found.bytes == {"all-gather": 16}


def test_a_program_without_collectives_sends_nothing() -> None:
    found = traffic("ENTRY %main (p: f32[8]) -> f32[8] {\n  ROOT %r = f32[8] negate(%p)\n}\n")
    assert not found.counts and not found.bytes
