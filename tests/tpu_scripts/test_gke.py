"""The JobSet: what submit.sh makes of jobset.yaml."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from jax._src.clusters import cloud_tpu_cluster

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


# Kubernetes' rule for the names of services and pods (RFC 1035), and the longest that JobSet makes
# of a JobSet's name for a pod of its largest slice: replicated job, job, host, five random letters.
LABEL = r"[a-z]([-a-z0-9]*[a-z0-9])?"
POD = "{}-slice-0-63-abcde"
NAMES = (
    *("azr_7b", "azr_7A", "azr_7B", "azr-7b", "azr.7b", "azr+7b", "AZR_7B"),
    *("7b", "_7b", "7b_", "7b-", "x" * 38 + "_b", "x" * 40, "x" * 41, "x" * 80, "x" * 80 + "y"),
    *("true", "null", "on", "1e3", "---", "é", "ü", "a/b", "a_b", "a$(b)"),
)


def test_every_run_has_a_name_of_its_own_that_kubernetes_takes(world: World) -> None:
    made = {}
    for run in NAMES:
        found = manifest(world, RUN_NAME=run)
        name = made[run] = found["metadata"]["name"]
        assert isinstance(name, str)
        assert re.fullmatch(LABEL, name), run
        assert len(POD.format(name)) <= 63
        assert len(name) <= 40, "XPK's limit"
        _, spec = pod(found)
        [container] = spec["containers"]
        command = container["command"]
        wanted = f"gs://my-bucket/runs/{run}".replace("$", "$$")  # Kubernetes undoes that
        assert command[command.index("--run_dir") + 1] == wanted
    assert len(set(made.values())) == len(NAMES)
    assert made["azr_7b"] == "azr-7b"


def test_the_ports_are_those_that_jax_uses(world: World) -> None:
    _, spec = pod(manifest(world))
    [container] = spec["containers"]
    ports = {str(port["containerPort"]) for port in container["ports"]}
    assert cloud_tpu_cluster.coordinator_port in ports


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"IMAGE": "my image"}, "IMAGE must name"),
        ({"IMAGE": 'a", x: "b'}, "IMAGE must name"),
        ({"SERVICE_ACCOUNT": "My_Account"}, "SERVICE_ACCOUNT must be"),
    ],
)
def test_names_that_kubernetes_refuses_are_refused_first(
    world: World, settings: dict[str, str], says: str
) -> None:
    assert says in world.fails("gke/submit", 2, **{"IMAGE": "my-image", **settings})
    assert world.told("tools") == []


def test_xpk_gets_the_same_run(world: World) -> None:
    world.ok("gke/submit", "--xpk", IMAGE="my-image", CLUSTER="my-cluster")
    [call] = world.told("tools")
    assert "--workload=azr-7b --tpu-type=v4-16 --num-slices=1" in call
    assert "azr train --run_dir gs://my-bucket/runs/azr_7b" in call
    assert "CLUSTER must name" in world.fails("gke/submit", 2, "--xpk", IMAGE="my-image")
