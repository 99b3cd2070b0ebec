"""Every hostile program, at each level, as root and as nobody; and that nothing of it is left."""

import ast
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import Sandbox
from tests.hostile.cases import LAST, TESTS
from tests.hostile.suite import CASES, LIMITS, Canary, Watch, judge, load, run, sandbox_at
from tests.until import until

ROOT = Path(__file__).parents[2]
LEVELS = (1, 2, 3)
Done = subprocess.CompletedProcess[str]


PROGRAMS = [
    pytest.param(level, case.name, id=f"{level}-{case.name}")
    for level in LEVELS
    for case in CASES
    if level in case.levels
]


@functools.cache
def violations(level: int) -> dict[str, list[str]] | None:
    """All programs of a level once, each beside a good one; None without such a level here.

    At level 2 all of them in lean zygotes, first; elsewhere most are of the kind for full ones.
    """
    box = sandbox_at(level)
    if box is None:
        return None
    with box, Canary() as canary:
        cases = [case for case in CASES if level in case.levels]
        return run(box, cases, canary, good=1, lean=True if level == 2 else None)


@pytest.mark.parametrize(("level", "name"), PROGRAMS)
def test_verdict(level: int, name: str) -> None:
    found = violations(level)
    if found is None:
        pytest.skip(f"level {level} is not to be had here")
    assert found[name] == []


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_left(level: int) -> None:
    found = violations(level)
    if found is None:
        pytest.skip(f"level {level} is not to be had here")
    assert found[""] == []


def check_run(done: Done) -> None:
    if done.returncode == 3:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("level", [pytest.param(1, marks=pytest.mark.soak), 2, 3])
def test_as_nobody(level: int, nobody: Callable[..., Done]) -> None:
    if os.getuid() != 0:
        pytest.skip("not root: the tests above ran without privileges")
    done = nobody("-m", "tests.hostile.suite", f"--level={level}")
    check_run(done)
    assert " as uid 0" not in done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("good", [0, 20], ids=["alone, lean", "one in twenty"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("user", ["mine", "nobody"])
def test_one_by_one(request: pytest.FixtureRequest, user: str, level: int, good: int) -> None:
    arguments = ["-m", "tests.hostile.suite", "--every", f"--level={level}", f"--good={good}"]
    if not good:
        arguments.append("--lean")
    if user == "nobody":
        check_run(request.getfixturevalue("nobody")(*arguments))
    else:
        command = [sys.executable, *arguments]
        check_run(subprocess.run(command, cwd=ROOT, capture_output=True, text=True))


@pytest.mark.soak
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13"])
def test_other_interpreters(name: str, level: int) -> None:
    python = shutil.which(name)
    version = [name, "-c", "import ctypes"]
    if python is None or subprocess.run(version, capture_output=True).returncode:
        pytest.skip(f"no {name} on the path")
    command = [python, "-m", "tests.hostile.suite", "--level", str(level)]
    check_run(subprocess.run(command, cwd=ROOT, capture_output=True, text=True))


def test_every_case_is_covered() -> None:
    programs = {number for case in CASES for number in case.numbers}
    assert programs | TESTS.keys() == set(range(1, LAST + 1))
    for names in TESTS.values():
        for name in names:
            path, _, function = name.partition("::")
            tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
            assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, name


ESCAPE = """# reaches whatever it is aimed at
# class: control
# cases: 1
# levels: 1
# allowed: TIMEOUT
# inputs: ["'$TREE', $PORT, '$NAME', $PID"]
import ctypes

def f(tree, port, name, pid):
    open(tree + '/stray', 'w').close()
    libc = ctypes.CDLL(None)
    there = b'\\x02\\x00' + port.to_bytes(2, 'big') + bytes([127, 0, 0, 1]) + bytes(8)
    assert libc.connect(libc.socket(2, 1, 0), there, 16) == 0
    here = b'\\x01\\x00\\x00' + name.encode()
    assert libc.connect(libc.socket(1, 1, 0), here, len(here)) == 0
    return 'escaped'
"""


def test_an_escape_would_be_seen(tmp_path: Path) -> None:
    """Level 1 has no such walls: the suite reports everything that it looks for."""
    path = tmp_path / "escape.py"
    path.write_text(ESCAPE)
    case = load(path)
    with Canary() as canary, Sandbox(limits=LIMITS, level=1, workers=1, cache_size=0) as box:
        found = run(box, [case], canary, good=1)
        together = "\n".join(found["escape"])
        for word in ("a file was made", "a listener was reached", "a wall", "OK"):
            assert word in together
        watch = Watch(box)
        stray = subprocess.Popen(
            [sys.executable, "-c", "input()", "sandbox.child", str(os.getpid())],
            stdin=subprocess.PIPE,
        )
        try:
            # Seen once the zygote has forked the child that waits for its next job.
            until(lambda: "processes too many" in "\n".join(watch.grown(patience_s=0.0)))
        finally:
            stray.kill()
            stray.communicate()
        (told,) = box.run([case.job(canary)])
        assert "the secret came out" in list(judge(case, told, "escaped"))


def test_the_heap_scan_finds_what_is_there() -> None:
    (scan,) = (case for case in CASES if case.name == "f75_heap_scan")
    with Canary() as canary, Sandbox(limits=LIMITS, workers=1) as box:
        job = scan.job(canary)
        code = f"kept = {{'key': [{canary.secret!r}]}}\n" + job.code
        (outcome,) = box.run([type(job)(code, job.inputs, limits=job.limits)])
    assert canary.secret in (outcome.outputs[0] or "")
