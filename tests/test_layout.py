"""The house keeps its shape: who may import whom, directly and through others.

Two views. The graph is read from the source, so that an import inside a function counts too. A
fresh interpreter then shows what is really loaded.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# room -> rooms that it may import from. A room is a package, or a module right under azr_jax.
TRAINED_WITH = {"selfplay", "learn", "model", "sandbox", "evals", "report"}
ARROWS: dict[str, set[str]] = {
    "sandbox": set(),
    "errors": set(),
    "storage": set(),
    "selfplay": {"sandbox"},
    "model": set(),
    "learn": {"model", "storage"},
    "report": {"storage"},
    "evals": {"selfplay", "model", "sandbox", "storage"},
    "tiny": {"selfplay", "learn", "model", "sandbox", "report"},  # it shows its progress
    "config": {"storage"},
    # The trainer: `train` is the algorithm, the others are what it is told in.
    "policy": {"learn", "model", "storage"},
    "rollout": {"selfplay", "model"},
    "observe": {"rollout", "selfplay", "sandbox"},
    "signals": set(),
    "hosts": {"signals", "sandbox"},
    "run_config": set(),
    "run": {
        *("hosts", "policy", "rollout", "observe", "run_config", "signals", "storage"),
        *TRAINED_WITH,
    },
    "build": {
        *("config", "hosts", "policy", "run", "run_config", "signals", "storage"),
        *TRAINED_WITH,
    },
    "plan": {"run_config", "config", "learn", "model"},
    "convert": {"policy", "learn", "model", "report"},
    "inference": {"policy", "config", "evals", "selfplay", "model", "sandbox", "report"},
    "vet": {"policy", "config", "evals", "model", "selfplay", "sandbox"},
    "train": {"hosts", "build", "run", "observe", *TRAINED_WITH},
}
EVERYWHERE = {"errors", ""}  # "" is azr_jax/__init__.py: the version
TOP = {"cli", "__main__", ""}  # what no other room imports

ACCELERATED = {"jax", "jaxlib", "flax", "optax", "orbax", "tensorstore"}


def modules() -> dict[str, Path]:
    """Dotted name of every module of the two packages."""
    found = {}
    for package in ("azr_jax", "sandbox"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    package, _, rest = module.partition(".")
    return package if package == "sandbox" else rest.partition(".")[0]


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def type_checking_only(tree: ast.Module) -> set[ast.AST]:
    """Nodes under `if TYPE_CHECKING:`; nothing there is loaded."""
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                hidden.update(ast.walk(statement))
    return hidden


def imported_names(tree: ast.Module, package: str, runtime_only: bool = False) -> Iterator[str]:
    """Dotted names that a module of `package` imports; `from a import b` gives `a` and `a.b`."""
    hidden = type_checking_only(tree) if runtime_only else set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                kept = parts[: len(parts) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def graph(runtime_only: bool = False) -> dict[str, set[str]]:
    """module -> what it imports: our modules by name, others by their top-level package.

    Importing `a.b.c` runs `a` and `a.b` as well, so they count.
    """
    known = modules()
    edges: dict[str, set[str]] = {}
    for module, path in known.items():
        edges[module] = set()
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for name in imported_names(syntax(path), package, runtime_only):
            parts = name.split(".")
            if parts[0] in ("azr_jax", "sandbox"):
                prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
                edges[module] |= prefixes & set(known)
            else:
                edges[module].add(parts[0])
        edges[module].discard(module)
    return edges


def reachable(start: str) -> set[str]:
    edges = graph(runtime_only=True)
    seen, todo = {start}, [start]
    while todo:
        for name in edges.get(todo.pop(), ()):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


OURS = sorted(modules())


@pytest.mark.parametrize("module", OURS)
def test_imports_follow_the_arrows(module: str) -> None:
    room = room_of(module)
    if room in TOP:
        return
    assert room in ARROWS, f"{module}: no such room in the design"
    allowed = ARROWS[room] | {room} | EVERYWHERE
    if room == "sandbox":
        allowed = {"sandbox"}
    for name in graph()[module]:
        if name.partition(".")[0] in ("azr_jax", "sandbox"):
            assert room_of(name) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in OURS if room_of(m) in ("selfplay", "sandbox")])
def test_selfplay_and_sandbox_reach_no_jax(module: str) -> None:
    assert not reachable(module) & ACCELERATED


@pytest.mark.parametrize("module", [m for m in OURS if room_of(m) == "sandbox"])
def test_sandbox_is_stdlib_only(module: str) -> None:
    outside = {n for n in reachable(module) if n.partition(".")[0] not in sys.stdlib_module_names}
    assert {n for n in outside if n.partition(".")[0] != "sandbox"} <= {"__future__"}


def test_the_graph_sees_every_kind_of_import() -> None:
    source = """
import a.b
from ..model import loss
if TYPE_CHECKING:
    import c
def f():
    from . import parse
"""
    names = set(imported_names(ast.parse(source), "azr_jax.selfplay", runtime_only=True))
    assert names == {
        "a.b",
        "azr_jax.model",
        "azr_jax.model.loss",
        "azr_jax.selfplay",
        "azr_jax.selfplay.parse",
    }
    assert "c" in set(imported_names(ast.parse(source), "azr_jax.selfplay"))
    assert "jax" in reachable("azr_jax.model.transformer")


@pytest.mark.parametrize("module", OURS)
def test_partition_specs_live_in_one_file(module: str) -> None:
    if module == "azr_jax.model.sharding":
        return
    for node in ast.walk(syntax(modules()[module])):
        name = getattr(node, "id", None) or getattr(node, "attr", None)
        names = {a.name for a in node.names} if isinstance(node, ast.ImportFrom) else {name}
        assert "PartitionSpec" not in names, f"{module}: shardings belong into model/sharding.py"


def loaded_by(modules_to_import: list[str]) -> set[str]:
    code = "import sys\n" + "".join(f"import {m}\n" for m in modules_to_import)
    code += "print('\\n'.join(sorted({m.partition('.')[0] for m in sys.modules})))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_selfplay_loads_no_jax() -> None:
    names = [m for m in OURS if room_of(m) == "selfplay"]
    loaded = loaded_by(names)
    assert "azr_jax" in loaded
    assert not loaded & (ACCELERATED | {"numpy", "gin"})


def test_importing_sandbox_loads_neither_jax_nor_azr_jax() -> None:
    names = [m for m in OURS if room_of(m) == "sandbox" and not m.endswith("__main__")]
    loaded = loaded_by(names)
    assert "sandbox" in loaded
    assert not loaded & (ACCELERATED | {"numpy", "azr_jax"})


@pytest.mark.parametrize("module", OURS)
def test_tensorflow_is_never_imported(module: str) -> None:
    assert "tensorflow" not in graph()[module]


def test_gin_folder_is_no_package() -> None:
    """With an __init__.py it would hide the gin library."""
    assert not list((ROOT / "gin").rglob("*.py"))
