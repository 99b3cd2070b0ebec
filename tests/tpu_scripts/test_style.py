"""The scripts are clean, short, and say at their head what they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tpu_scripts.world import SCRIPTS

FILES = sorted(SCRIPTS.rglob("*.sh"))
SOURCED = {"common.sh", "tpu.sh"}  # they change no shell of their own


def test_shellcheck() -> None:
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([tool, *FILES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_script_is_short_strict_and_executable(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 150
    assert all(len(line) <= 110 for line in lines)
    if path.name in SOURCED:
        assert lines[0] == "# shellcheck shell=bash"
        return
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")
    assert os.access(path, os.X_OK)
    strict = any(line == "set -euo pipefail" for line in lines)
    assert strict or any(line.endswith('/common.sh"') for line in lines)
