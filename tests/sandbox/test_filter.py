"""The seccomp filter, run here by a small interpreter of its own, for both architectures."""

import re
import struct
from pathlib import Path

import pytest

from sandbox.child import kernel
from sandbox.child.kernel import seccomp_program

ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Linux's own lists of call numbers; aarch64 uses the generic one.
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


def decide(program: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the filter answers to a call: the five instructions that it is made of."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *(*arguments, *[0] * 6)[:6])
    at, accumulator = 0, 0
    while True:
        code, true, false, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x06:
            return k
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}
            at += true if holds[code] else false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("rearm", [False, True])
def test_every_call_number(machine, rearm):
    program = seccomp_program(machine, rearm)
    allowed = set(kernel._ALLOWED[machine].values())
    mapping, settime = kernel._MAPPING[machine], kernel._TIMER_SETTIME[machine]
    for number in range(1024):
        plain = decide(program, ARCH[machine], number)
        if number in allowed or number in mapping or (rearm and number == settime):
            assert plain == ALLOW
        else:
            assert plain == EPERM
        executable = decide(program, ARCH[machine], number, (0, 0, 7))
        if number in mapping:
            assert executable == EPERM
        for timer in (1, 2, 3, 2**31):
            if number == settime:
                assert decide(program, ARCH[machine], number, (timer,)) == (
                    ALLOW if rearm and timer < 2 else EPERM
                )


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_other_architectures_are_killed(machine):
    program = seccomp_program(machine, False)
    for other in (0x40000003, 0xC00000B7 if machine == "x86_64" else 0xC000003E, 0):
        assert decide(program, other, 0) == KILL
    if machine == "x86_64":
        for number in (0x40000000, 0x40000001, 0x400001FF):
            assert decide(program, ARCH[machine], number) == KILL


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_are_those_of_linux(machine):
    path = next((p for p in map(Path, HEADERS[machine]) if p.exists()), None)
    if path is None:
        pytest.skip(f"no kernel headers for {machine} on this host")
    pairs = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())
    numbers = {name: int(number) for name, number in pairs}
    ours = {
        **kernel._ALLOWED[machine],
        **dict(zip(("mmap", "mprotect"), kernel._MAPPING[machine], strict=True)),
        "timer_create": kernel._TIMER_CREATE[machine],
        "timer_settime": kernel._TIMER_SETTIME[machine],
        "prlimit64": kernel._PRLIMIT[machine],
        "prctl": kernel._PRCTL[machine],
        "landlock_create_ruleset": kernel._LANDLOCK[0],
        "landlock_add_rule": kernel._LANDLOCK[1],
        "landlock_restrict_self": kernel._LANDLOCK[2],
    }
    assert ours == {name: numbers[name] for name in ours}
