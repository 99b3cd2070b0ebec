"""Published triplets, executed again: the same output, or a difference with a known reason."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sandbox import Job, Limits, Outcome, Sandbox, Status
from sandbox.literals import LiteralError, equal

TRIPLETS = Path(__file__).parents[3] / "shared/data/triplets"
LIMITS = Limits(cpu_s=2.0, wall_s=20.0, memory_mb=256)
IDENTITY = "def f(*values):\n    return values[0] if len(values) == 1 else values\n"

# A failing program's reason, by how its error starts.
ERRORS = {
    "ModuleNotFoundError": "a module outside the preloaded standard library (numpy, sympy, cv2)",
    "not a plain value": "an object (Counter, generator, ...), of which its str was stored",
    "PermissionError": "the program writes a file",
    "result over": "a result over the cap of 65536 bytes",
}
CUT = "the stored text keeps 200 characters from either end"
CODE = "the stored text is code, such as dict(a=1), for the same value"
SEED = "the order of a set of texts: refused as a proposal"
FAILED = "it fails here and there: nothing was stored"
SAME = "equal, read as literal data"


def rows() -> list[tuple[Job, str]]:
    """Each program with one of its inputs, and the stored output."""
    found = []
    for path in sorted(TRIPLETS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = json.loads(line)
            code = "\n".join([*fields["imports"], fields["snippet"]])
            inputs = fields.get("inputs") or [fields["input"]]
            outputs = fields.get("outputs") or [fields["output"]]
            found += [
                (Job(code, (text,)), output) for text, output in zip(inputs, outputs, strict=True)
            ]
    return found


def reason(box: Sandbox, job: Job, outcome: Outcome, stored: str) -> str | None:
    """Why the output is not the stored one, or that it is; None: for no known reason."""
    (ours,) = outcome.outputs
    if ours is None:
        error = outcome.error or ""
        why = next((text for start, text in ERRORS.items() if error.startswith(start)), None)
        return why or (FAILED if stored == "" and outcome.status is Status.RAISED else None)
    try:
        if equal(ours, stored):
            return SAME
    except LiteralError:
        pass
    (read,) = box.run([Job(IDENTITY, (stored,))])
    if read.outputs[0] is not None and equal(read.outputs[0], ours):
        return CODE
    if len(stored) == 403 and stored[200:203] == "..." and len(ours) > 400:
        return CUT if ours[:200] == stored[:200] or ours[-200:] == stored[-200:] else None
    (strict,) = box.run([Job(job.code, job.inputs, deterministic=True)])
    return SEED if strict.status is Status.NONDETERMINISTIC else None


@pytest.mark.skipif(not TRIPLETS.exists(), reason="the published triplets are not here")
@pytest.mark.parametrize(
    "step",
    [pytest.param(25, id="sample"), pytest.param(1, id="all", marks=pytest.mark.soak)],
)
def test_published_triplets(step: int) -> None:
    wanted = rows()[::step]
    with Sandbox(limits=LIMITS) as box:
        outcomes = box.run([job for job, _ in wanted])
        reasons = [
            reason(box, job, outcome, stored)
            for (job, stored), outcome in zip(wanted, outcomes, strict=True)
        ]
    counts = Counter(reasons)
    print(*(f"{count:6} {why}" for why, count in counts.most_common()), sep="\n")
    unexplained = [row for row, why in zip(wanted, reasons, strict=True) if why is None]
    assert unexplained == []
    assert counts[SAME] > 0.9 * len(wanted)
