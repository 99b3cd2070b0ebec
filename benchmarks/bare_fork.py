"""The limit of every design with a fork per program: fork, compile, exec, call, pipe, wait.

    python -S bare_fork.py plain|lean MODULE,MODULE,... < batches.jsonl

No walls, no limits, no timeout, and the job need not be sent: the child finds it in its memory.
Batches and answers as in `sandbox_original.py`; one process, so one core. The process that forks
has run programs itself before, or each child would build the compiler's tables anew. `plain` is
what anyone would write then. `lean` drops the hooks that `random` and `threading` leave for after
each fork, and freezes the heap for the garbage collector.
"""

import gc
import json
import os
import resource
import sys
import time

WARM = """
import math
from collections import deque

def f(n, values):
    text = "".join(chr(97 + i % 26) for i in range(n))
    line = deque(v * 2.5 for v in values if v)
    while n > 0:
        n -= 1
    return {str(k): [math.gcd(k, 4), text, sorted(line, key=lambda v: -v)] for k in values}
"""


def run(batch):
    """Fork once per program; every child calls it twice on every input."""
    done = 0
    for program, inputs in batch:
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write_fd, results(program, inputs))
            os._exit(0)
        os.close(write_fd)
        done += bool(os.read(read_fd, 65536))
        os.close(read_fd)
        os.wait4(pid, 0)
    return done


def results(program, inputs):
    """What two calls on each input agree on."""
    scope = {}
    exec(compile(program, "<program>", "exec"), scope)
    found = []
    for text in inputs:
        first, second = (repr(scope["f"](*eval(f"({text},)"))) for _ in range(2))
        found.append(first if first == second else "")
    return "\n".join(found).encode()


def cpu_s():
    """CPU seconds of this process and of all its children."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usages)


def main():
    """Serve batches on standard input and output."""
    kind, modules = sys.argv[1:]
    if kind == "lean":
        os.register_at_fork = lambda **hooks: None
    for name in modules.split(","):
        __import__(name)
    for _ in range(16):
        results(WARM, ["1, [3, 1]"])
    if kind == "lean":
        gc.collect()
        gc.freeze()
    for line in sys.stdin:
        batch = json.loads(line)
        started, before = time.monotonic(), cpu_s()
        done = run(batch)
        row = {"wall_s": time.monotonic() - started, "cpu_s": cpu_s() - before, "done": done}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
