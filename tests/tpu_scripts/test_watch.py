"""watch.sh: a run is kept going through preemptions and crashes, and given up for good reasons."""

from __future__ import annotations

import os

from tests.tpu_scripts.world import World

CREATE = ("queued-resources", "create")
UNTIL_THE_END = "until [[ -e $AZR_FAKE/end ]]; do sleep 0.05; done"
# How often azr was started so far, on all workers together: 2 for the first launch, then 4, …
NTH = 'n=$(grep -c train "$AZR_FAKE/azr_calls")'


def test_from_nothing_to_the_end(world: World) -> None:
    world.change(bucket=None)
    world.tell("azr", "exit 0")
    assert "azr_7b is finished" in world.ok("watch")
    assert "node" in world.state, "its results may still have to be exported"


def test_a_preempted_run_is_resumed_on_a_new_tpu(world: World) -> None:
    world.is_set_up()
    world.tell("azr", NTH, "((n > 2)) || exec sleep infinity", "exit 0")
    # As the watcher looks: ready, launched, fine, then gone.
    world.tell("states", "=", "=", "SUSPENDING", "=", "SUSPENDED")
    said = world.ok("watch")
    assert "it is brought back, and azr_7b resumed" in said
    assert len(world.calls(*CREATE)) == 1
    calls = world.told("azr_calls")
    assert len(calls) == 4
    assert len(set(calls)) == 1, "the command that resumes is the one that started"


def test_a_dropped_connection_is_no_reason_to_restart(world: World) -> None:
    world.is_set_up()
    world.tell("azr", UNTIL_THE_END, "exit 0")
    world.ok("launch")
    world.tell("faults", *["tpu-vm ssh drop"] * 2, "queued-resources describe unavailable")
    world.tell("states", *["="] * 4, "end")
    world.ok("watch")
    assert world.starts(2) == 2


def test_bad_input_ends_the_watch(world: World) -> None:
    world.is_set_up()
    world.tell("azr", "exit 2")
    last = world.fails("watch", 2)
    assert "cannot run as it is configured" in last
    assert "the TPU azr stays" in last
    assert len(world.told("azr_calls")) == 2


def test_a_crash_that_stays_is_given_up(world: World) -> None:
    world.is_set_up()
    world.tell("azr", "exit 1")
    last = world.fails("watch", 1, MAX_FAILURES="3")
    assert "3 failures without a new checkpoint; the TPU azr stays" in last
    assert len(world.told("azr_calls")) == 6
    assert len(world.calls(*CREATE)) == 1, "a second failure may be the machine's"


def test_a_set_up_that_fails_on_living_workers_is_retried_on_the_same_tpu(world: World) -> None:
    world.has_tpu()
    world.tell("apt", 'echo "E: The repository does not have a Release file." >&2; exit 100')
    last = world.fails("watch", 1, MAX_FAILURES="3", ATTEMPTS="1")
    assert "setup_failed, 3 failures without a new checkpoint; the TPU azr stays" in last
    assert world.calls("delete") == []


def test_workers_that_do_not_answer_to_set_up_are_replaced(world: World) -> None:
    world.has_tpu()
    world.tell("faults", "tpu-vm scp drop!")
    world.fails("watch", 1, MAX_FAILURES="3", ATTEMPTS="1")
    assert world.calls("delete") == [], "copying failed, but ssh answers"
    world.tell("faults", "tpu-vm scp drop!", "tpu-vm ssh drop!")
    world.fails("watch", 1, MAX_FAILURES="3", ATTEMPTS="1")
    assert len(world.calls("queued-resources", "delete")) == 1


def test_a_bucket_that_does_not_answer_is_no_progress(world: World) -> None:
    world.is_set_up()
    world.tell("objects", "gs://my-bucket/runs/azr_7b/checkpoints/8/commit_success.txt")
    world.tell("azr", "exit 1")
    world.tell("faults", "storage ls ok", "storage ls unavailable", "storage ls ok")
    world.fails("watch", 1, MAX_FAILURES="3", ATTEMPTS="1")
    assert len(world.told("azr_calls")) == 6


def test_progress_forgives_failures(world: World) -> None:
    world.is_set_up()
    saved = (
        'echo "gs://my-bucket/runs/azr_7b/checkpoints/$n/commit_success.txt" >>"$AZR_FAKE/objects"'
    )
    world.tell("azr", NTH, f"((n > 4)) || {{ {saved}; exit 1; }}", "exit 0")
    world.ok("watch", MAX_FAILURES="2")


def test_no_quota_is_waited_out(world: World) -> None:
    world.tell("azr", "exit 0")
    world.tell("faults", *["queued-resources create quota"] * 4)
    said = world.ok("watch")
    assert "create_failed (failure 1 of 5)" in said


def test_a_run_that_was_stopped_is_not_started_again(world: World) -> None:
    world.is_set_up()
    stop = f'"{world.worker(0)}/azr/stopped" "{world.worker(1)}/azr/stopped"'
    world.tell("azr", UNTIL_THE_END, f"touch {stop}; exit 1")
    world.tell("states", "=", "=", "end")
    assert "azr_7b was stopped; the TPU azr stays" in world.fails("watch", 1)


def test_two_watchers_of_one_tpu_are_refused(world: World) -> None:
    lock = world.home / ".cache" / "azr-tpu" / "watch-my-project-us-central2-b-azr"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{os.getpid()}\n")
    assert f"watcher {os.getpid()} looks after azr already" in world.fails("watch", 2)
    assert lock.exists()
