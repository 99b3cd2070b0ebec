"""The cases of the threat list that are no program, and the tests that stand for them.

The list has 135 cases: A cpu 1-20, B memory 21-29, C stack and parsers 30-40, D processes 41-53,
E files and network 54-67, F forgery 68-90, G introspection 91-97, H nondeterminism 98-108,
I values 109-120, J output 121-125, K infrastructure 126-135. The others are the numbers in the
headers of `programs/`.
"""

LAST = 135

TESTS: dict[int, tuple[str, ...]] = {
    # A program just under its CPU limit on an oversubscribed machine is right.
    17: ("hostile/test_load.py::test_just_under_the_limit_beside_busy_loops",),
    # A hundred memory bombs at once stay within 2 x workers x limit.
    28: ("hostile/test_load.py::test_a_hundred_bombs",),
    # A deep answer meets the parent's parser.
    34: ("sandbox/test_literals.py::test_caps", "sandbox/test_fuzz.py::test_deep_texts"),
    39: ("hostile/test_sources.py::test_a_megabyte_on_one_line",),
    74: ("sandbox/test_oracles.py::test_tricks_earn_nothing",),
    # Injected text as an answer, a lying object as an answer.
    84: ("sandbox/test_oracles.py::test_tricks_earn_nothing",),
    85: ("sandbox/test_oracles.py::test_tricks_earn_nothing",),
    # A program that knows the shown examples by heart.
    87: ("sandbox/test_oracles.py::test_tricks_earn_nothing",),
    104: ("hostile/test_sources.py::test_clock_and_look_alikes_are_banned",),
    110: ("hostile/test_sources.py::test_source",),
    111: ("hostile/test_sources.py::test_source",),
    112: ("hostile/test_sources.py::test_source",),
    113: ("hostile/test_sources.py::test_clock_and_look_alikes_are_banned",),
    126: ("sandbox/test_sandbox.py::test_killed_zygotes_lose_no_job",),
    # The dispatcher is a thread of the trainer: it dies with the trainer's process (128), or by a
    # fault in itself, which may cost verdicts (INFRA) but neither hang nor forge one.
    127: ("hostile/test_infrastructure.py::test_fault_of_the_dispatcher",),
    128: ("hostile/test_infrastructure.py::test_killed_trainer",),
    129: ("hostile/test_infrastructure.py::test_no_descriptors_left",
          "hostile/test_infrastructure.py::test_no_process_can_be_forked"),
    130: ("hostile/test_infrastructure.py::test_nothing_can_be_written",),
    131: ("hostile/test_infrastructure.py::test_the_clock_is_set",),
    132: ("hostile/test_infrastructure.py::test_no_process_can_be_forked",),
    133: ("hostile/test_infrastructure.py::test_missing_primitive",),
    134: ("hostile/test_load.py::test_mostly_loops",),
    135: ("hostile/test_infrastructure.py::test_interrupted_batch",),
}  # fmt: skip
