"""The JobSet: what submit.sh makes of jobset.yaml."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.tpu_scripts.world import World


def manifest(world: World, **settings: str) -> dict[str, Any]:
    done = world.run("gke/submit", IMAGE="my-image", **settings)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def pod(made: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    [group] = made["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    return job, job["template"]["spec"]


@pytest.mark.parametrize(
    ("accelerator", "label", "topology", "hosts"),
    [
        ("v4-8", "tpu-v4-podslice", "2x2x1", 1),
        ("v4-32", "tpu-v4-podslice", "2x2x4", 4),
        ("v5p-16", "tpu-v5p-slice", "2x2x2", 2),
        ("v5litepod-16", "tpu-v5-lite-podslice", "4x4", 4),
        ("v6e-256", "tpu-v6e-slice", "16x16", 64),
    ],
)
def test_a_slice_is_all_hosts_of_one_topology(
    world: World, accelerator: str, label: str, topology: str, hosts: int
) -> None:
    job, spec = pod(manifest(world, ACCELERATOR_TYPE=accelerator))
    assert job["parallelism"] == job["completions"] == hosts
    assert spec["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
        "cloud.google.com/gke-spot": "true",
    }


def test_the_command_arrives_as_it_was_meant(world: World) -> None:
    awkward = 'A.b = "say \\"so\\" \\\\ & $HOME"'
    made = manifest(world, GIN_BINDINGS=awkward, CAPACITY="on-demand")
    _, spec = pod(made)
    [container] = spec["containers"]
    assert container["image"] == "my-image"
    assert container["command"][-2:] == ["--gin_bindings", awkward]
    assert container["command"][3:5] == ["azr", "train"]
    assert "cloud.google.com/gke-spot" not in spec["nodeSelector"]
    assert made["metadata"]["name"] == "azr-7b"
    assert "${" not in yaml.safe_dump(made).replace("$HOME", "")


def test_bad_input_is_not_restarted(world: World) -> None:
    made = manifest(world)
    job, _ = pod(made)
    assert made["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]


def test_xpk_gets_the_same_run(world: World) -> None:
    world.ok("gke/submit", "--xpk", IMAGE="my-image", CLUSTER="my-cluster")
    [call] = world.told("tools")
    assert "--workload=azr-7b --tpu-type=v4-16 --num-slices=1" in call
    assert "azr train --run_dir gs://my-bucket/runs/azr_7b" in call
    assert "CLUSTER must name" in world.fails("gke/submit", 2, "--xpk", IMAGE="my-image")
