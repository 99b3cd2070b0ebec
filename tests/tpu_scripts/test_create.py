"""create.sh and delete.sh against every way in which the queue can fail."""

from __future__ import annotations

import pytest

from tests.tpu_scripts.world import World

CREATE = ("queued-resources", "create")


def test_waits_until_it_is_ready(world: World) -> None:
    world.tell("states", "=", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    said = world.ok("create")
    assert said.endswith("azr-tpu: azr: READY\n")
    assert len(world.calls(*CREATE)) == 1


def test_what_is_ready_is_left_alone(world: World) -> None:
    world.has_tpu()
    world.ok("create")
    assert world.calls("create") == []


def test_waits_on_for_an_earlier_request(world: World) -> None:
    world.has_tpu("WAITING_FOR_RESOURCES", None)
    world.tell("states", "=", "PROVISIONING", "ACTIVE")
    world.ok("create")
    assert world.calls("create") == []


def test_a_node_in_repair_is_waited_for(world: World) -> None:
    world.has_tpu()
    world.tell("states", "node REPAIRING", "node RESTARTING", "node READY")
    world.ok("create")
    assert world.calls("delete") == []


def test_gives_up_waiting_and_says_that_the_request_stays(world: World) -> None:
    world.has_tpu("WAITING_FOR_RESOURCES", None)
    last = world.fails("create", 1, MAX_POLLS="4")
    assert "still QUEUED after 4 looks; the request stays" in last
    assert "queue" in world.state


# --- the request fails ---------------------------------------------------------------------------


def test_quota_is_retried(world: World) -> None:
    world.tell("faults", "queued-resources create quota", "queued-resources create unavailable")
    world.ok("create")
    assert len(world.calls(*CREATE)) == 3


def test_quota_that_stays_is_reported(world: World) -> None:
    world.tell("faults", "queued-resources create quota!")
    last = world.fails("create", 1)
    assert "nothing was created: no quota for v4-16 (spot) in us-central2-b" in last
    assert "Limit: 8" in last
    assert len(world.calls(*CREATE)) == 3
    assert "queue" not in world.state


def test_a_missing_right_is_not_retried(world: World) -> None:
    world.tell("faults", "queued-resources create denied!")
    last = world.fails("create", 2)
    assert "PERMISSION_DENIED" in last
    assert len(world.calls(*CREATE)) == 1


def test_a_request_that_got_through_in_spite_of_an_error_is_waited_for(world: World) -> None:
    world.tell("faults", "queued-resources create half-unavailable")
    world.ok("create")
    assert world.state["node"] == ["READY", "2"]


def test_a_half_made_request_is_deleted(world: World) -> None:
    world.tell("faults", "queued-resources create half-unavailable!")
    last = world.fails("create", 1, ATTEMPTS="1")
    assert "azr was deleted, nothing is left" in last
    assert "queue" not in world.state
    assert "node" not in world.state


def test_a_half_made_request_that_cannot_be_deleted_is_named(world: World) -> None:
    world.tell(
        "faults",
        "queued-resources create half-unavailable!",
        "queued-resources delete unavailable!",
    )
    last = world.fails("create", 1, ATTEMPTS="1")
    assert "deleting azr failed too" in last
    assert "may cost money until delete.sh succeeds" in last


def test_the_queue_cannot_be_seen(world: World) -> None:
    world.tell("faults", "queued-resources describe unavailable!")
    last = world.fails("create", 1)
    assert "cannot look at azr (it may exist: status.sh)" in last
    assert world.calls("create") == []


def test_a_word_further_on_in_a_message_is_no_verdict(world: World) -> None:
    world.tell(
        "faults",
        "buckets describe words",
        "queued-resources describe words",
        "queued-resources create words",
    )
    world.ok("create")
    assert world.calls("buckets", "create") == []
    assert len(world.calls(*CREATE)) == 2
    world.tell("faults", "queued-resources delete words", "tpu-vm describe words")
    world.ok("delete")
    assert world.state == {"bucket": []}


# --- what the name stands for already ------------------------------------------------------------


def test_another_type_is_refused(world: World) -> None:
    world.has_tpu()
    last = world.fails("create", 2, ACCELERATOR_TYPE="v4-32")
    assert "azr exists, but is a v4-16, not a v4-32" in last
    assert world.calls("delete") == []


def test_a_node_without_a_request_is_refused(world: World) -> None:
    world.change(node="READY 2")
    assert "that no queued resource made" in world.fails("create", 2)


# --- preempted, failed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "node"),
    [("SUSPENDED", None), ("FAILED", None), ("ACTIVE", "PREEMPTED"), ("ACTIVE", None)],
)
def test_what_is_dead_is_deleted_and_asked_for_anew(
    world: World, queue: str, node: str | None
) -> None:
    world.has_tpu(queue, node)
    world.ok("create")
    assert len(world.calls("queued-resources", "delete")) == 1
    assert len(world.calls(*CREATE)) == 1
    assert world.state["node"] == ["READY", "2"]


def test_a_state_that_nobody_knows_deletes_nothing(world: World) -> None:
    world.has_tpu()
    world.tell("states", "node UNHEARD_OF", "node READY")
    world.ok("create")
    assert world.calls("delete") == []


def test_a_suspension_is_waited_out(world: World) -> None:
    world.has_tpu("SUSPENDING", None)
    world.tell("states", "=", "=", "SUSPENDED")
    world.ok("create")
    assert len(world.calls(*CREATE)) == 1


def test_preempted_before_it_was_ready(world: World) -> None:
    world.tell("states", "=", "PROVISIONING", "SUSPENDED", "=", "=", "ACTIVE")
    world.ok("create")
    assert len(world.calls(*CREATE)) == 2


def test_a_request_that_always_fails_leaves_nothing(world: World) -> None:
    world.tell("states", *["=", "FAILED", "="] * 3)
    last = world.fails("create", 1)
    assert "azr was FAILED 3 times: no capacity in this zone; azr was deleted" in last
    assert "queue" not in world.state


# --- the bucket ----------------------------------------------------------------------------------


def test_a_missing_bucket_is_made_first(world: World) -> None:
    world.change(bucket=None)
    world.ok("create")
    [made] = world.calls("buckets", "create")
    assert "--location=us-central2" in made
    assert "bucket" in world.state


def test_without_a_bucket_no_tpu_is_asked_for(world: World) -> None:
    world.tell("faults", "buckets describe denied!")
    assert "cannot look at gs://my-bucket, no TPU was asked for" in world.fails("create", 1)
    world.change(bucket=None)
    world.tell("faults", "buckets create denied!")
    assert "cannot make gs://my-bucket, no TPU was asked for" in world.fails("create", 1)
    assert world.calls("queued-resources") == []


# --- delete --------------------------------------------------------------------------------------


def test_delete_leaves_nothing_and_may_be_run_again(world: World) -> None:
    world.has_tpu()
    world.tell("faults", "queued-resources delete unavailable", "tpu-vm describe unavailable")
    world.ok("delete")
    assert world.state == {"bucket": []}
    world.ok("delete")


def test_delete_takes_a_node_without_a_request_too(world: World) -> None:
    world.change(node="READY 2")
    world.ok("delete")
    assert "node" not in world.state


def test_a_delete_that_fails_is_no_success(world: World) -> None:
    world.has_tpu()
    world.tell("faults", "queued-resources delete unavailable!")
    assert "deleting azr failed, it may still cost money" in world.fails("delete", 1)
