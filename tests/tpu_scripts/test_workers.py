"""setup.sh, launch.sh, stop.sh and the rest: what reaches the workers, and what they do with it."""

from __future__ import annotations

import pytest

from tests.tpu_scripts.world import REVISION, SCRIPTS, World

OTHER = "f" * 40
UP = 'touch "$AZR_FAKE/up-$HOSTNAME"'


# --- set-up --------------------------------------------------------------------------------------


def test_set_up_brings_python_packages_and_the_same_commit(world: World) -> None:
    world.has_tpu()
    said = world.ok("setup")
    assert f"2 workers have {REVISION}" in said
    tools = world.told("tools")
    assert len([line for line in tools if "install python3.11 python3.11-venv" in line]) == 2
    pips = [line for line in tools if line.startswith("pip install")]
    assert len(pips) == 2
    assert "-c code/constraints.txt -e ./code[tpu,gcs]" in pips[0]
    assert tools.count("python -m sandbox probe") == 2
    # Again: looked at, not done.
    world.ok("setup")
    assert world.told("tools") == tools


def test_a_newer_commit_replaces_the_code_whole(world: World) -> None:
    world.is_set_up()
    for number in range(2):
        (world.worker(number) / "azr" / "code" / "gone.py").touch()
    world.tell("changed", " M azr_jax/train.py")
    said = world.ok("setup", REVISION=OTHER)  # named: what is changed here does not matter
    assert f"2 workers have {OTHER}" in said
    assert not (world.worker(0) / "azr" / "code" / "gone.py").exists()


def test_changes_that_are_not_committed_are_refused(world: World) -> None:
    world.tell("changed", " M azr_jax/train.py")
    for script in ("setup", "launch", "watch"):
        assert "changes that are not committed would not reach" in world.fails(script, 2)
    assert world.calls() == []


def test_set_up_survives_dropped_connections(world: World) -> None:
    world.has_tpu()
    world.tell("faults", "tpu-vm scp drop", "tpu-vm ssh drop", "tpu-vm describe unavailable")
    world.ok("setup")
    assert (world.worker(1) / "azr" / "installed").exists()


def test_set_up_that_does_not_get_through_fails(world: World) -> None:
    world.has_tpu()
    world.tell("faults", "tpu-vm scp drop!")
    assert "the code did not reach every worker" in world.fails("setup", 1)
    world.tell("faults", "tpu-vm ssh drop!")
    assert "set-up failed on a worker" in world.fails("setup", 1)


def test_a_host_where_the_sandbox_does_not_hold_is_refused_at_once(world: World) -> None:
    world.has_tpu()
    world.tell("probe", "exit 1")
    assert "the sandbox does not hold here" in world.fails("setup", 1)
    assert world.told("tools").count("python -m sandbox probe") == 2  # once a worker: no retry


def test_a_worker_whose_set_up_fails_is_named(world: World) -> None:
    world.has_tpu()
    world.tell("probe", "[[ $HOSTNAME == host-0 ]] || exit 1")
    assert "azr-tpu: host-1: the sandbox does not hold here" in world.fails("setup", 1)
    assert "host-1                   bare" in world.ok("status")


def test_a_worker_with_another_commit_is_named(world: World) -> None:
    world.is_set_up()
    # It says that it is done, and is not: what counts is what it has, asked for afterwards.
    lies = f'echo "{OTHER} 3.11" >"$HOME/azr/installed"'
    script = world.worker(1) / "azr" / "code" / "tpu_scripts"
    script.unlink()
    (script / "worker").mkdir(parents=True)
    real = (SCRIPTS / "worker" / "run.sh").read_text()
    (script / "worker" / "run.sh").write_text(real.replace("set -euo pipefail", lies, 1))
    assert f"not every worker has {REVISION}: host-1 has {OTHER}" in world.fails("setup", 1)


def test_the_code_of_a_run_that_lives_is_not_replaced(world: World) -> None:
    world.is_set_up()
    world.ok("launch")
    assert "a run is alive here" in world.fails("setup", 1, REVISION=OTHER)
    assert world.alive(0)
    assert world.alive(1)


# gcloud uses the same words for its own errors.
WORKERS_WORDS = (
    "E: The repository 'http://ppa.invalid jammy Release' does not have a Release file.",
    "NOT_FOUND: package not found",
    "ERROR: (gcloud.storage.ls) PERMISSION_DENIED: One or more URLs matched no objects.",
    "PERMISSION_DENIED, UNAUTHENTICATED, INVALID_ARGUMENT, unrecognized arguments: --all",
)


@pytest.mark.parametrize("words", WORKERS_WORDS)
def test_what_a_worker_writes_is_no_verdict_of_gcloud(world: World, words: str) -> None:
    world.has_tpu()
    once = '[[ -e $HOME/failed ]] || { touch "$HOME/failed"; exit 100; }'
    world.tell("apt", f'echo "{words}" >&2', once)
    world.ok("setup", ATTEMPTS="2")


def test_a_file_that_a_copy_names_is_no_verdict_either(world: World) -> None:
    world.has_tpu()
    world.tell("faults", "tpu-vm scp words")
    world.ok("setup")


# --- launch, stop --------------------------------------------------------------------------------


def test_the_run_starts_on_all_workers_once(world: World) -> None:
    world.is_set_up()
    world.ok("launch", GIN_FILES="runs/a.gin b.gin", GIN_BINDINGS="A.b = 'it''s'\nC.d = (1, 2)")
    assert "already" in world.ok("launch")
    want = (
        "train --run_dir gs://my-bucket/runs/azr_7b --steps 500 --gin_file runs/a.gin"
        ' --gin_file b.gin --gin_bindings INIT_CHECKPOINT = "gs://my-bucket/models/Qwen2.5-7B"'
        " --gin_bindings A.b = 'it''s' --gin_bindings C.d = (1, 2)"
    )
    world.is_up()
    assert world.told("azr_calls") == [want, want]
    log = world.ok("logs", "--worker=all")
    for host in (0, 1):
        assert f"cache gs://my-bucket/compilation_cache revision {REVISION} on host-{host}" in log


def test_an_empty_init_checkpoint_leaves_it_to_the_gin_files(world: World) -> None:
    world.is_set_up()
    world.ok("launch", GIN_FILES="runs/tiny.gin", INIT_CHECKPOINT="")
    world.starts(2)
    assert "INIT_CHECKPOINT" not in world.told("azr_calls")[0]


def test_a_dropped_connection_does_not_start_it_twice(world: World) -> None:
    world.is_set_up()
    # The first look gets through, the start reaches one worker only, then both.
    world.tell("faults", "tpu-vm ssh ok", "tpu-vm ssh drop", "tpu-vm describe unavailable")
    world.ok("launch")
    world.is_up()
    assert world.starts(2) == 2


def test_started_on_some_workers_only_it_is_stopped_again(world: World) -> None:
    world.is_set_up()
    (world.worker(1) / "azr" / "installed").write_text(f"{OTHER} 3.11\n")
    last = world.fails("launch", 1)
    assert "did not start on all workers and was stopped again" in last
    assert f"host-1 has {OTHER}, the run wants {REVISION}" in last
    assert not world.alive(0)


def test_what_runs_on_some_workers_only_is_started_on_all(world: World) -> None:
    world.is_set_up()
    world.ok("launch")
    pid = (world.worker(0) / "azr" / "pid").read_text()
    world.shell(["bash", "-c", f"kill -KILL -- -{pid.split()[0]}"])
    assert "PARTIAL" in world.ok("status")
    assert "runs on some workers only" in world.ok("launch")
    assert world.alive(0)
    assert world.alive(1)
    assert world.starts(4) == 4


def test_bad_input_shows_at_once(world: World) -> None:
    world.is_set_up()
    world.tell("azr", "echo 'azr: no such gin file' >&2; exit 2")
    done = world.run("launch", SETTLE_SECONDS="settled")
    assert done.returncode == 2
    assert "azr: no such gin file" in done.stderr
    assert "was refused" in done.stderr


def test_a_crash_at_the_start_shows_at_once(world: World) -> None:
    world.is_set_up()
    world.tell("azr", "[[ $HOSTNAME == host-0 ]] || exec sleep infinity; exit 1")
    assert "ended at once (PARTIAL)" in world.fails("launch", 1, SETTLE_SECONDS="settled")
    assert not world.alive(1)


def test_stop_lets_it_save_and_may_be_run_again(world: World) -> None:
    world.is_set_up()
    world.tell("azr", "trap 'echo saved; exit 1' TERM", UP, "while :; do sleep 0.05; done")
    world.ok("launch")
    world.is_up()
    world.ok("stop")
    assert not world.alive(0)
    assert not world.alive(1)
    assert "saved" in world.ok("logs")
    assert "STOPPED" in world.ok("status")
    world.ok("stop")


def test_what_does_not_stop_is_killed(world: World) -> None:
    world.is_set_up()
    world.tell("azr", "trap '' TERM", UP, "while :; do sleep 0.05; done")
    world.ok("launch")
    world.is_up()
    world.ok("stop", STOP_SECONDS="0")
    assert not world.alive(0)


# --- looking, fetching ---------------------------------------------------------------------------


def test_status_of_nothing(world: World) -> None:
    said = world.ok("status")
    assert "request     MISSING" in said
    assert "checkpoint  none" in said


def test_status_names_the_newest_checkpoint(world: World) -> None:
    world.is_set_up()
    runs = "gs://my-bucket/runs/azr_7b/checkpoints"
    marks = [f"{runs}/{n}/commit_success.txt" for n in (8, 10, 9)]
    world.tell("objects", *marks, f"{runs}/11/params/manifest.ocdbt")  # not whole yet
    said = world.ok("status")
    assert f"checkpoint  {runs}/10\n" in said
    assert "run         IDLE" in said


def test_workers_that_do_not_answer_are_reported(world: World) -> None:
    world.is_set_up()
    world.tell("faults", "tpu-vm ssh drop!")
    assert "its workers do not answer" in world.fails("status", 1)
    assert "cannot read the log" in world.fails("logs", 1)
    assert "may still be alive" in world.fails("stop", 1)
    assert "nothing was started" in world.fails("launch", 1)


def test_a_model_is_imported_once(world: World) -> None:
    world.is_set_up()
    world.ok("import")
    assert world.told("objects") == [
        "gs://my-bucket/models/Qwen2.5-7B",
        "gs://my-bucket/models/Qwen2.5-7B/commit_success.txt",  # last: what has it is whole
    ]
    world.ok("import")
    assert len(world.told("azr_calls")) == 1
    assert not (world.worker(0) / "azr" / "model").exists()


def test_an_import_that_breaks_leaves_no_mark(world: World) -> None:
    world.is_set_up()
    world.tell("faults", "storage rsync unavailable!")
    assert "was not imported" in world.fails("import", 1)
    assert world.told("objects") == []


def test_export_and_fetch(world: World) -> None:
    world.is_set_up()
    world.tell("faults", "tpu-vm ssh drop", "storage rsync unavailable")
    world.ok("export")
    assert (world.home / "exports" / "azr_7b").is_dir()
    assert "gs://my-bucket/exports/azr_7b" in world.told("objects")
    world.ok("fetch", "here")
    assert (world.home / "here").is_dir()
    world.tell("faults", "storage rsync unavailable!")
    assert "was not fetched whole" in world.fails("fetch", 1)
