"""A world without a cloud: gcloud, git and a worker's tools stand-ins, everything else is real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.until import PATIENCE_S, until

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRIPTS = ROOT / "tpu_scripts"
REVISION = "0123456789abcdef0123456789abcdef01234567"

# The azr of a fake worker. $AZR_FAKE/azr says what a run does.
VENV_AZR = r"""#!/bin/bash
echo "$*" >>"$AZR_FAKE/azr_calls"
case $1 in
  train) . "$AZR_FAKE/azr" ;;
  import) mkdir -p "$5/manifest"; touch "$5/manifest/data.json" "$5/commit_success.txt" ;;
  export) mkdir -p "$5"; touch "$5/model.safetensors" ;;
esac
"""
# What `python -m venv --clear DIR` and other uses of Python do there.
PYTHON = r"""#!/bin/bash
if [[ $1 == -m && $2 == venv ]]; then
  mkdir -p "$4/bin"
  printf '#!/bin/bash\necho "pip $*" >>"$AZR_FAKE/tools"\n' >"$4/bin/pip"
  printf '#!/bin/bash\necho "python $*" >>"$AZR_FAKE/tools"\n. "$AZR_FAKE/probe"\n' >"$4/bin/python"
  printf '#!/bin/bash\nmkdir -p "$4"\n' >"$4/bin/hf"
  cp "$AZR_FAKE/venv_azr" "$4/bin/azr"
  chmod +x "$4"/bin/*
elif [[ $* == *ensurepip* && ! -e $HOME/has_python ]]; then
  exit 1
fi
"""
SUDO = r"""#!/bin/bash
echo "sudo $*" >>"$AZR_FAKE/tools"
[[ ! -e $AZR_FAKE/apt ]] || . "$AZR_FAKE/apt"
[[ $* != *python3.11-venv* ]] || touch "$HOME/has_python"
"""
GIT = rf"""#!/bin/bash
while [[ $1 == -* ]]; do shift 2; done
case $1 in
  rev-parse) echo {REVISION} ;;
  status) cat "$AZR_FAKE/changed" ;;
  archive) tar -czf "${{3#--output=}}" -C "{ROOT}" tpu_scripts ;;
esac
"""
AZR = """
echo "cache $JAX_COMPILATION_CACHE_DIR revision $AZR_REVISION on $HOSTNAME"
touch "$AZR_FAKE/up-$HOSTNAME"
exec sleep infinity
"""
TOOLS = {
    "git": GIT,
    "sudo": SUDO,
    "python3.11": PYTHON,
    "kubectl": '#!/bin/bash\necho "kubectl $*" >>"$AZR_FAKE/tools"\ncat "${2#--filename=}"\n',
    "xpk": '#!/bin/bash\necho "xpk $*" >>"$AZR_FAKE/tools"\n',
    "docker": "#!/bin/bash\n",
    # SETTLE_SECONDS=settled: until a run has ended on some worker, however slow this machine is.
    "sleep": """#!/bin/bash
[[ $1 == settled ]] || exec /bin/sleep "$1"
until compgen -G "$AZR_FAKE/workers/*/azr/exit_code" >/dev/null; do /bin/sleep 0.05; done
""",
    # Followed, a log has no end; here it has.
    "tail": '#!/bin/bash\n[[ $* == *" -F "* ]] || exec /usr/bin/tail "$@"\ncat "${@: -1}"\n',
}
SETTINGS = {
    "PROJECT": "my-project",
    "BUCKET": "gs://my-bucket",
    "ACCELERATOR_TYPE": "v4-16",
    "ATTEMPTS": "3",
    "BACKOFF_SECONDS": "0",
    "POLL_SECONDS": "0",
    "SETTLE_SECONDS": "0",
    "STRAGGLE_POLLS": "1000",
    "STOP_SECONDS": str(PATIENCE_S // 2),
}


class World:
    """A folder that the stand-ins share, and the environment that leads to them."""

    def __init__(self, folder: Path) -> None:
        self.fake = folder / "fake"
        self.home = folder / "home"
        tools = folder / "bin"
        for made in (self.fake, self.home, tools):
            made.mkdir()
        (tools / "gcloud").symlink_to(HERE / "fake_gcloud.py")
        for name, text in TOOLS.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        for name, text in {"azr": AZR, "venv_azr": VENV_AZR, "probe": "", "changed": ""}.items():
            (self.fake / name).write_text(text)
        self.change()
        (self.fake / "venv_azr").chmod(0o755)
        self.environment = {
            "PATH": f"{tools}:/usr/bin:/bin:{Path(sys.executable).parent}",
            "HOME": str(self.home),
            "AZR_FAKE": str(self.fake),
            **SETTINGS,
        }

    def run(
        self, script: str, *arguments: str, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return self.shell([str(SCRIPTS / f"{script}.sh"), *arguments], **settings)

    def shell(self, command: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**self.environment, **settings},
            cwd=self.home,
            text=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )

    def ok(self, script: str, *arguments: str, **settings: str) -> str:
        """Runs a script that must succeed; returns all it said."""
        done = self.run(script, *arguments, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def fails(self, script: str, code: int, *arguments: str, **settings: str) -> str:
        """Runs a script that must fail so; returns its last line."""
        done = self.run(script, *arguments, **settings)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr.splitlines()[-1]

    def tell(self, name: str, *lines: str) -> None:
        """What the stand-ins read: faults, states, objects, azr, apt, probe, changed."""
        (self.fake / name).write_text("".join(f"{line}\n" for line in lines))

    def told(self, name: str) -> list[str]:
        """What the stand-ins wrote: tools, azr_calls, objects."""
        path = self.fake / name
        return path.read_text().splitlines() if path.exists() else []

    def calls(self, *words: str) -> list[list[str]]:
        """The calls of gcloud that have all of `words` among their arguments."""
        every = [line.split("\x1f") for line in self.told("calls")]
        return [call for call in every if set(words) <= set(call)]

    @property
    def state(self) -> dict[str, list[str]]:
        """What there is of queue, node and bucket: their states and sizes."""
        lines = [line.split() for line in self.told("world")]
        return {name: values for name, *values in lines}

    def change(self, **parts: str | None) -> None:
        """Sets parts of the world: queue="STATE TYPE", node="STATE WORKERS", bucket=""."""
        told = {name: " ".join(values) for name, values in self.state.items()}
        now = {"bucket": "", **told, **parts}
        self.tell("world", *(f"{name} {text}" for name, text in now.items() if text is not None))

    def worker(self, number: int) -> Path:
        return self.fake / "workers" / str(number)

    def has_tpu(self, queue: str = "ACTIVE", node: str | None = "READY") -> None:
        """A TPU of two workers, as create.sh leaves it; or in another state."""
        self.change(queue=f"{queue} v4-16", node=f"{node} 2" if node else None)
        for number in range(2 if node else 0):
            self.worker(number).mkdir(parents=True)

    def is_set_up(self) -> None:
        """A TPU whose workers are as setup.sh leaves them."""
        self.has_tpu()
        for number in range(2):
            azr = self.worker(number) / "azr"
            (azr / "code").mkdir(parents=True)
            (azr / "code" / "tpu_scripts").symlink_to(SCRIPTS)
            (azr / "venv" / "bin").mkdir(parents=True)
            (azr / "venv" / "bin" / "azr").symlink_to(self.fake / "venv_azr")
            (azr / "venv" / "bin" / "hf").symlink_to("/bin/true")
            (azr / "installed").write_text(f"{REVISION} 3.11\n")

    def starts(self, number: int) -> int:
        """Waits until azr was started that often; returns how often it was."""
        until(lambda: len(self.told("azr_calls")) >= number)
        return len(self.told("azr_calls"))

    def is_up(self) -> None:
        """Waits until the run says on both workers that it is."""
        until(lambda: all((self.fake / f"up-host-{number}").exists() for number in range(2)))

    def alive(self, number: int) -> bool:
        """Whether the run lives on that worker."""
        path = self.worker(number) / "azr" / "pid"
        if not path.exists():
            return False
        stat = Path("/proc", path.read_text().split()[0], "stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    def end(self) -> None:
        for path in self.fake.glob("workers/*/azr/pid"):
            try:
                os.killpg(int(path.read_text().split()[0]), signal.SIGKILL)
            except (IndexError, ProcessLookupError):
                continue
