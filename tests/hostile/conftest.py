"""Running something without privileges, also where the tests run as root."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture(scope="session")
def nobody() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs Python with the given arguments beside the sandbox and the suite, not as root.

    Root's home is often closed to others: the files are copied, and where the interpreter itself
    is out of reach the system's own is taken.
    """
    if os.getuid() != 0:
        yield lambda *words: subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True
        )
        return
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(ROOT / "sandbox", folder / "sandbox")
        hostile = folder / "tests/hostile"
        shutil.copytree(ROOT / "tests/hostile/programs", hostile / "programs")
        shutil.copy(ROOT / "tests/hostile/suite.py", hostile)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)

        def run(*words: str, python: str = "") -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [python or found, *words], cwd=folder, env={}, user=NOBODY, group=NOBODY,
                extra_groups=[], capture_output=True, text=True,
            )  # fmt: skip

        fit = "import ctypes, sys; sys.exit(sys.version_info < (3, 11))"
        for found in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
            try:
                if run("-c", fit, python=found).returncode == 0:
                    break
            except OSError:
                continue
        else:
            pytest.skip("there is no Python that nobody may run")
        yield run
    finally:
        shutil.rmtree(folder)
