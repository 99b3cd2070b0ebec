"""A sandbox for programs that nobody has read. Standard library only; usable alone.

from sandbox import Sandbox, Job, Limits, Status
with Sandbox(limits=Limits(cpu_s=1.0, memory_mb=256)) as box:
    outcomes = box.run([Job(code=program, inputs=("1, 2",))])
    future = box.submit(job)
"""

from sandbox.box import Sandbox
from sandbox.jobs import Job, Limits, Outcome, SandboxUnavailable, Status

__all__ = ["Job", "Limits", "Outcome", "Sandbox", "SandboxUnavailable", "Status"]
