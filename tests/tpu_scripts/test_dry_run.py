"""--dry-run prints every command, runs none, and prints what a real run would call."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.tpu_scripts.world import REVISION, ROOT, World

GOLDENS = Path(__file__).parent / "goldens"
REWRITE = "AZR_REWRITE_GOLDENS"  # set it to write what the scripts print now, then read the diff
SCRIPTS = [
    "create",
    "setup",
    "launch",
    "watch",
    "status",
    "logs",
    "logs --follow --worker=all --lines=7",
    "stop",
    "import",
    "export",
    "fetch",
    "delete",
    "gke/submit",
    "gke/submit --xpk",
]
GKE = {"IMAGE": "my-image", "CLUSTER": "my-cluster"}


def dry(world: World, command: str, **settings: str) -> str:
    script, *arguments = command.split()
    done = world.run(script, *arguments, "--dry-run", **GKE, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(str(world.home), "HOME").replace(str(ROOT), "ROOT")


@pytest.mark.parametrize("command", SCRIPTS)
def test_golden(world: World, command: str) -> None:
    golden = GOLDENS / f"{re.sub('[^a-z0-9]+', '_', command)}.txt"
    printed = dry(world, command, ACCELERATOR_TYPE="v4-32").replace(REVISION, "REVISION")
    if os.environ.get(REWRITE):
        golden.write_text(printed)
    assert printed == golden.read_text()
    assert world.calls() == []
    assert world.told("tools") == []


@pytest.mark.parametrize(
    ("accelerator", "image"),
    [
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-64", "v2-alpha-tpuv5"),
        ("v6e-256", "v2-alpha-tpuv6e"),
    ],
)
def test_each_generation_gets_its_image(world: World, accelerator: str, image: str) -> None:
    printed = dry(world, "create", ACCELERATOR_TYPE=accelerator)
    assert f"--accelerator-type={accelerator} --runtime-version={image} --spot\n" in printed


def test_capacity_and_own_flags(world: World) -> None:
    printed = dry(world, "create", CAPACITY="on-demand", CREATE_FLAGS="--internal-ips --network=n")
    assert "--runtime-version=tpu-ubuntu2204-base --internal-ips --network=n\n" in printed
    assert "--spot" not in printed
    assert "--reserved\n" in dry(world, "create", CAPACITY="reserved")
    assert " --internal-ip " in dry(world, "stop", SSH_FLAGS="--internal-ip")


def test_what_a_dry_run_prints_is_what_a_run_calls(world: World) -> None:
    world.change(bucket=None)
    for script in ("create", "setup", "launch", "status", "stop", "fetch"):
        printed = [
            shlex.split(line)[1:]
            for line in world.run(script, "--dry-run").stdout.splitlines()
            if line.startswith("gcloud ")
        ]
        world.run(script)
        assert world.calls() == printed
        (world.fake / "calls").unlink()


@pytest.mark.parametrize(
    ("script", "settings", "says"),
    [
        ("create", {"PROJECT": ""}, "PROJECT is not set"),
        ("create", {"BUCKET": "my-bucket"}, "BUCKET must be gs://"),
        ("create", {"ACCELERATOR_TYPE": "v4-32x"}, "ACCELERATOR_TYPE must be"),
        ("create", {"ACCELERATOR_TYPE": "v7x-8"}, "ACCELERATOR_TYPE must be"),
        ("create", {"CAPACITY": "cheap"}, "CAPACITY must be"),
        ("launch", {"RUN_DIR": "runs/mine"}, "RUN_DIR must be gs://"),
        ("launch", {"TOTAL_STEPS": "many"}, "TOTAL_STEPS must be"),
        ("launch", {"REVISION": "main"}, "REVISION must be a whole commit id"),
        ("import", {"INIT_CHECKPOINT": "models/7b"}, "INIT_CHECKPOINT must be gs://"),
        ("create", {"TPU_NAME": "Azr"}, "TPU_NAME must be"),
        ("create", {"TPU_NAME": "7-azr"}, "TPU_NAME must be"),
        ("create", {"TPU_NAME": "azr_7b"}, "TPU_NAME must be"),
        ("create", {"TPU_NAME": "azr-"}, "TPU_NAME must be"),
        ("create", {"TPU_NAME": "a" * 64}, "TPU_NAME must be"),
        ("create", {"BUCKET": "gs://my-bucket/"}, "BUCKET must be gs://NAME"),
        ("create", {"BUCKET": "gs://my-bucket/here"}, "BUCKET must be gs://NAME"),
        ("launch", {"RUN_NAME": "a[1]b"}, "RUN_NAME must have no"),
        ("launch", {"RUN_NAME": "../a"}, "RUN_NAME must have no"),
        ("launch", {"RUN_NAME": "a\nb"}, "RUN_NAME must have no"),
        ("launch", {"RUN_DIR": "gs://my-bucket/a*"}, "RUN_DIR must have no"),
        ("launch", {"RUN_DIR": "gs://my-bucket/runs/"}, "RUN_DIR must have no"),
        ("launch", {"INIT_CHECKPOINT": 'gs://my-bucket/"7b"'}, "INIT_CHECKPOINT must have no"),
        ("gke/submit", {"IMAGE": ""}, "IMAGE must name"),
        ("gke/submit", {"IMAGE": "i", "ACCELERATOR_TYPE": "v4-34"}, "no topology is known"),
    ],
)
def test_bad_settings_are_refused_first(
    world: World, script: str, settings: dict[str, str], says: str
) -> None:
    done = world.run(script, **settings)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert world.calls() == []


def test_unknown_flags_are_refused(world: World) -> None:
    assert "takes --dry-run and --help, not: --force" in world.fails("delete", 2, "--force")
    assert "not: --last" in world.fails("logs", 2, "--last")
    assert "--worker must be" in world.fails("logs", 2, "--worker=first")


def test_help_is_the_head_of_the_file(world: World) -> None:
    done = world.run("watch", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Keeps the run going to its end")
    assert "source" not in done.stdout
