"""The commands: read the flags and the gin files, then call one function.

Exit code 0: done. 2: bad input, one line on standard error. 1: anything else.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from azr_jax import __version__, config, storage
from azr_jax.errors import UserError

DEFAULT_RUN = "runs/tiny.gin"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        args.command(args)
    except UserError as error:
        print(f"azr: {_one_line(error)}", file=sys.stderr)
        return 2
    except storage.StorageError as error:
        print(f"azr: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"azr: {_one_line(error) or 'interrupted'}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"azr: the disk is full: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


# --- the commands, in the order of a first visit ------------------------------------------------


def _train(args: argparse.Namespace) -> None:
    storage.require_compilation_cache()
    bindings = list(args.gin_bindings)
    if args.run_dir is not None:
        storage.array_place(args.run_dir)
        bindings.append(f"RUN_DIR = {args.run_dir!r}")
    if args.steps is not None:
        bindings.append(f"TOTAL_STEPS = {args.steps}")
    files = args.gin_file or [_config_of(args.run_dir) or DEFAULT_RUN]
    from azr_jax.hosts.join import Settings, join, versions

    settings = Settings.with_environment(
        os.environ,
        coordinator=args.coordinator,
        processes=args.processes,
        process_id=args.process_id,
        heartbeat_s=args.heartbeat_s,
    )
    with join(settings) as hosts:
        hosts.require_same(versions(), "comparing versions")
        with hosts.together("reading the configuration"):
            config.parse(files, bindings)
        from azr_jax.train import train_command

        train_command(hosts)


def _config_of(run_dir: str | None) -> str | None:
    """The configuration of the run in `run_dir`, if there is one to go on with."""
    if not run_dir:
        return None
    path = storage.locate(run_dir) / "config.gin"
    return str(path) if storage.read(path) is not None else None


def _eval(args: argparse.Namespace) -> None:
    _require_folder(args.out)
    model_from_gin = _parse_for_checkpoint(args)
    from azr_jax.inference import eval_command

    sampled = args.samples_per_problem > 1
    found = eval_command(
        args.checkpoint,
        args.benchmark,
        args.data,
        samples=args.samples_per_problem,
        temperature=float(sampled) if args.temperature is None else args.temperature,
        sandbox_level=args.sandbox_level,
        model_from_gin=model_from_gin,
    )
    _write_lines([found], args.out)


def _generate(args: argparse.Namespace) -> None:
    _require_folder(args.out)
    model_from_gin = _parse_for_checkpoint(args)
    from azr_jax.inference import generate_command

    rows = generate_command(
        args.checkpoint,
        args.prompts,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        model_from_gin=model_from_gin,
    )
    _write_lines(rows, args.out)


def _parse_for_checkpoint(args: argparse.Namespace) -> bool:
    """Reads the gin files that were given, else those that the checkpoint was made with.

    Returns whether files were given that describe the model: how it is to be computed.
    """
    storage.require_compilation_cache()
    folder = storage.locate(args.checkpoint)
    if args.checkpoint != "tiny" and not storage.is_folder(folder):
        raise UserError(f"checkpoint {args.checkpoint!r}: no such directory")
    if not storage.is_remote(folder):
        folder = folder.resolve()
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    files = args.gin_file or [_config_of(str(run)) or DEFAULT_RUN]
    config.parse(files, list(args.gin_bindings))
    return bool(args.gin_file) and config.is_bound("ModelConfig")


def _require_folder(out: Path | None) -> None:
    """Whether a result can be written there is known before it is worked for."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UserError(f"cannot write {out}: it is a folder, or its folder does not exist")


def _verify(args: argparse.Namespace) -> None:
    from sandbox import Sandbox, SandboxUnavailable
    from sandbox.verify import TaskError, verify_file

    _require_folder(args.out)
    try:
        with Sandbox(level=args.sandbox_level) as box:
            rows = verify_file(args.tasks, box)
    except (TaskError, SandboxUnavailable) as error:
        raise UserError(str(error)) from error
    _write_lines(rows, args.out)


def _import(args: argparse.Namespace) -> None:
    from azr_jax.convert import import_command

    storage.array_place(args.out, saves=False)  # it is written in one piece
    import_command(args.hf, args.out)


def _export(args: argparse.Namespace) -> None:
    from azr_jax.convert import export_command

    export_command(args.checkpoint, args.out, args.dtype)


def _plan(args: argparse.Namespace) -> None:
    _require_folder(args.json)
    os.environ["JAX_PLATFORMS"] = "cpu"  # chips that are here are left alone
    from azr_jax.plan.command import parse_gin, plan_command, search_command

    if not (args.topology or args.search):
        raise UserError("azr plan needs --topology, as in v5e-16, or --search")
    parse_gin(args.gin_file or [DEFAULT_RUN], args.topology or "v4", args.gin_bindings)
    found = search_command(args.topology) if args.search else plan_command(args.topology)
    if args.json is not None:
        _write_lines([found], args.json)


def _report(args: argparse.Namespace) -> None:
    from azr_jax.report.html import write_report

    print(write_report(args.run_dir, args.out))


def _write_lines(rows: Iterable[Mapping[str, object]], out: Path | None) -> None:
    """JSON lines, to a file or to standard output."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error


def _pretrain(args: argparse.Namespace) -> None:
    config.parse(args.gin_file or [DEFAULT_RUN], args.gin_bindings)
    from azr_jax.tiny.pretrain import pretrain
    from azr_jax.vet import vet

    storage.array_place(args.out)
    pretrain(args.out, config.build("PretrainConfig"))
    vet(args.out)


# --- flags ---------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        message = " ".join(message.split())  # an argument may hold line breaks
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def _parser() -> _Parser:
    parser = _Parser(prog="azr", description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"azr-jax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(
        name: str, function: Callable[[argparse.Namespace], None], text: str, gin: bool = False
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=function)
        if gin:
            added.add_argument(
                "--gin_file", action="append", default=[], metavar="FILE", help="repeatable"
            )
            added.add_argument(
                "--gin_bindings",
                action="append",
                default=[],
                metavar="'NAME = VALUE'",
                help="read after the files; repeatable",
            )
        return added

    train = command("train", _train, "start a self-play run, or resume the one in DIR", gin=True)
    train.add_argument("--run_dir", metavar="DIR")
    train.add_argument("--steps", type=_positive, metavar="TOTAL", help="of the whole run")

    hosts = train.add_argument_group(
        "several hosts", "the same command on each; a TPU pod needs none of these"
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; a free port")
    hosts.add_argument("--processes", type=_positive, metavar="N", help="of the whole run")
    hosts.add_argument("--process_id", type=_index, metavar="I", help="of this one, from 0")
    hosts.add_argument(
        "--heartbeat_s", type=_positive, metavar="S", help="who is silent for longer is lost: 30"
    )

    evaluate = command("eval", _eval, "measure a checkpoint on a benchmark", gin=True)
    evaluate.add_argument("--checkpoint", metavar="DIR", required=True)
    evaluate.add_argument("--benchmark", metavar="NAME", required=True)
    evaluate.add_argument("--data", type=_local, metavar="FILE", help="default: as shipped")
    evaluate.add_argument("--samples_per_problem", type=_positive, metavar="N", default=1)
    evaluate.add_argument(
        "--temperature",
        type=_temperature,
        metavar="T",
        help="0 is greedy; default: 0 for one sample a problem, 1 for more",
    )
    evaluate.add_argument("--sandbox_level", type=int, choices=(1, 2, 3), default=2)

    generate = command("generate", _generate, "complete prompts with a checkpoint", gin=True)
    generate.add_argument("--checkpoint", metavar="DIR", required=True)
    generate.add_argument("--prompts", type=_local, metavar="FILE.jsonl", required=True)
    generate.add_argument("--max_tokens", type=_positive, metavar="N", help="new ones, at most")
    generate.add_argument(
        "--temperature", type=_temperature, metavar="T", default=1.0, help="0 is greedy; default: 1"
    )
    for added in (evaluate, generate):
        added.add_argument("--out", type=_local, metavar="FILE", help="default: standard output")

    verify = command("verify", _verify, "check the answers of a tasks file; no model is needed")
    verify.add_argument("tasks", type=_local, metavar="TASKS.jsonl")
    verify.add_argument("--out", type=_local, metavar="FILE", help="default: standard output")
    verify.add_argument("--sandbox_level", type=int, choices=(1, 2, 3), default=2)

    convert = command("import", _import, "read a Hugging Face folder into a checkpoint")
    convert.add_argument("--hf", type=_local, metavar="DIR", required=True)
    convert.add_argument("--out", type=_local, metavar="DIR", required=True)

    export = command("export", _export, "write a checkpoint as a Hugging Face folder")
    export.add_argument("--checkpoint", metavar="DIR", required=True)
    export.add_argument("--out", type=_local, metavar="DIR", required=True)
    export.add_argument(
        "--dtype",
        choices=("same", "bf16", "f32"),
        default="same",
        help="default: that of the model that was imported",
    )

    plan = command(
        "plan", _plan, "compile a run for a TPU slice, without one: does it fit?", gin=True
    )
    plan.add_argument("--topology", metavar="NAME", default="", help="v4-16, v5e-16, v5p-16 …")
    plan.add_argument(
        "--search",
        action="store_true",
        help="propose the cheapest slice that fits; --topology v5e: of that generation",
    )
    plan.add_argument("--json", type=_local, metavar="FILE", help="write the numbers there")

    report = command("report", _report, "write the HTML report of a run")
    report.add_argument("run_dir", metavar="RUN_DIR")
    report.add_argument("--out", type=_local, metavar="FILE", help="default: RUN_DIR/report.html")

    pretrain = command("pretrain", _pretrain, "rebuild the embedded tiny model", gin=True)
    pretrain.add_argument("--out", type=_local, metavar="DIR", required=True)
    return parser


def _local(text: str) -> Path:
    if storage.is_remote(text):
        raise argparse.ArgumentTypeError(f"{text}: name a file or folder of this machine")
    try:
        return storage.locate(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _index(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no temperature: 0 (greedy) or more")
    return value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
