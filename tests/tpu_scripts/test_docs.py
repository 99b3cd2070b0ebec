"""docs/tpu.md: every line of it is tried, dry and then for real in a world without a cloud."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.tpu_scripts.world import ROOT, SCRIPTS, World

TEXT = (ROOT / "docs" / "tpu.md").read_text()
LINES = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def session(world: World, dry: bool) -> Iterator[tuple[str, str]]:
    """Types the page into a shell, line by line; yields each script's line and what it printed."""
    exports = ""
    for line in LINES:
        if line.startswith("export "):
            exports += line + "\n"
            continue
        command = line.replace("tpu_scripts/", f"{SCRIPTS}/")
        if line.startswith("tpu_scripts/") and dry:
            command += " --dry-run"
        done = world.shell(["bash", "-euc", exports + command])
        assert done.returncode == 0, f"{line}: {done.stderr}"
        if line.startswith("tpu_scripts/"):
            yield line, done.stdout


def test_every_line_in_dry_run(world: World) -> None:
    seen = dict(session(world, dry=True))
    assert all(seen.values())
    assert (
        "--accelerator-type=v4-32 --runtime-version=tpu-ubuntu2204-base --spot"
        in seen["tpu_scripts/create.sh"]
    )
    # Only the log-in and the services are gcloud's own lines.
    assert [call[:2] for call in world.calls()] == [["auth", "login"], ["services", "enable"]]
    assert world.told("azr_calls") == []


def test_the_page_from_top_to_bottom(world: World) -> None:
    world.change(bucket=None)
    # The run lives while it is launched and looked at, and ends while it is watched.
    world.tell("azr", 'until [[ -e "$AZR_FAKE/end" ]]; do sleep 0.05; done', "exit 0")
    world.tell("states", "PROVISIONING", "ACTIVE", *["="] * 5, "end")
    ran = [line for line, _ in session(world, dry=False)]
    assert len(ran) == len(set(ran)) == 12
    assert world.state == {"bucket": []}
    assert "gs://my-project-azr/models/Qwen2.5-7B/commit_success.txt" in world.told("objects")
    assert "gs://my-project-azr/exports/azr_7b" in world.told("objects")


def test_every_script_is_on_the_page() -> None:
    named = set(re.findall(r"tpu_scripts/([a-z/]+)\.sh", TEXT)) | set(
        re.findall(r"`([a-z]+)\.sh`", TEXT)
    )
    scripts = {
        str(path.relative_to(SCRIPTS).with_suffix(""))
        for folder in (SCRIPTS, SCRIPTS / "gke")
        for path in folder.glob("*.sh")
    }
    assert named == scripts - {"common", "tpu"}


def test_what_the_page_says_it_says_is_what_the_scripts_say() -> None:
    source = "".join(path.read_text() for path in SCRIPTS.rglob("*.sh"))
    table = TEXT.partition("## When something fails")[2].partition("\n## ")[0]
    quoted = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert len(quoted) == 9
    for message in quoted:
        pieces = re.split(r"…|azr|v4-\d+|\(spot\)|QUEUED|;", message)
        for piece in filter(None, (piece.strip() for piece in pieces)):
            assert piece in source, message
