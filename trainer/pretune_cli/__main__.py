"""The command line. Nothing heavy is imported until a command needs it: help comes at once."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune_cli import streams

_INTERRUPTED = 130
"""Exit status after Ctrl-C where there was nothing to commit, as shells count it: 128 and SIGINT."""

_UNREAD = 141
"""Exit status where nobody reads on, as in `pretune render … | head`: 128 and SIGPIPE."""

_LAST_PORT = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command, or show which there are; its exit status."""
    streams.fill_closed()
    streams.escape_what_has_no_code()
    given = sys.argv[1:] if arguments is None else arguments
    parsed = _parser().parse_args(given or ["--help"])
    try:
        status = _carry_out(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        streams.tell("interrupted")
        return _INTERRUPTED
    except OSError as error:
        if not streams.is_lost(sys.stdout):
            raise
        return _unwritten(error)
    return status


def _unwritten(error: OSError) -> int:
    """The exit status where standard output takes no more. Who stops reading knows it; others are told."""
    from pretune_api.names import ExitCode

    streams.discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return _UNREAD
    streams.tell(f"cannot write to standard output: {error.strerror}")
    return ExitCode.FAILED


def _carry_out(parsed: argparse.Namespace) -> int:
    from pretune_trainer.errors import PretuneError

    try:
        status: int = parsed.command(parsed)
    except PretuneError as error:
        streams.tell(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        return _uninstalled(error)
    return status


def _uninstalled(error: ModuleNotFoundError) -> int:
    """The exit status where a command needs what only extras of the package bring."""
    from pretune_api.names import ExitCode

    if error.name is None or error.name.startswith("pretune"):
        raise error
    streams.tell(f"{error.name} is not installed; pip install 'pretune[finetune]'")
    return ExitCode.USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pretune", description="Pre-train and fine-tune models from PretrainJob and FinetuneJob files."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_validate(commands)
    _add_preflight(commands)
    _add_render(commands)
    _add_submit(commands)
    _add_status(commands)
    _add_logs(commands)
    _add_report(commands)
    return parser


class _Version(argparse.Action):
    """Shows the version, which takes longer to find than help does to come."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from importlib.metadata import version

        print(f"pretune {version('pretune')}")
        parser.exit()


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser(
        "run",
        help="train the jobs in files on this machine, parents first",
        description="Train the jobs in files on this machine, parents first. Ctrl-C commits a checkpoint; run again to"
        " resume.",
    )
    _add_files(run)
    run.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="number of ranks on this machine, instead of that in spec.compute",
    )
    run.add_argument(
        "--ray",
        action=argparse.BooleanOptionalAction,
        help="train under Ray, or in this process; by default under Ray if there are several ranks",
    )
    _add_storage(run)
    run.add_argument("--metrics-port", type=_port, metavar="PORT", help="serve /metrics and /progress on this port")
    run.add_argument("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard events to this folder")
    run.add_argument("--verbose", action="store_true", help="also show what libraries log")
    run.set_defaults(command=_run)


def _add_validate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    validate = commands.add_parser(
        "validate",
        help="list every error in job files",
        description="List every error in job files, without reading any data.",
    )
    _add_files(validate)
    validate.set_defaults(command=_validate)


def _add_preflight(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    preflight = commands.add_parser(
        "preflight",
        help="check storage, data and model of jobs without training",
        description="Check what the jobs in files need: storage, parents, sources, tokenizer, model, one batch, and the"
        " memory of each GPU. Only the first rows of each source are read.",
    )
    _add_files(preflight)
    _add_storage(preflight)
    preflight.add_argument("--json", action="store_true", help="print a JSON line for each job, instead of tables")
    preflight.set_defaults(command=_preflight)


def _add_render(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    render = commands.add_parser(
        "render",
        help="print the manifests that the operator would create",
        description="Print the Job of each job's preflight, and the ConfigMap, NetworkPolicy and RayJob of its first"
        " attempt, as YAML.",
    )
    _add_files(render)
    render.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="the operator's configuration; by default, images pretune/pretrain:latest and pretune/finetune:latest,"
        " and pools with 8 nvidia.com/gpu per node",
    )
    render.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        metavar="KIND/NAME=URI@DIGEST",
        help="artifact of a job that model.from or tokenizer.from names; may be repeated",
    )
    render.set_defaults(command=_render)


def _add_submit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    submit = commands.add_parser(
        "submit",
        help="send the jobs in files to a cluster",
        description="Check the jobs in files and send them to the cluster that the kubeconfig names.",
    )
    _add_files(submit)
    _add_namespace(submit)
    submit.add_argument("--follow", action="store_true", help="show their progress until each has ended")
    submit.set_defaults(command=_submit)


def _add_status(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    status = commands.add_parser(
        "status",
        help="show a job on a cluster",
        description="Show the progress of a job on a cluster, its preflight findings, its attempts and its lineage.",
    )
    status.add_argument("job", metavar="JOB", help="NAME, or KIND/NAME")
    _add_namespace(status)
    status.add_argument("--watch", action="store_true", help="follow its progress until it has ended")
    status.set_defaults(command=_status)


def _add_logs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    logs = commands.add_parser(
        "logs",
        help="print the log of an attempt",
        description="Print the log of an attempt from the job's storage, which it reaches within seconds.",
    )
    _add_place(logs)
    _add_namespace(logs)
    logs.add_argument("--attempt", type=_positive, metavar="N", help="which attempt; by default the last")
    logs.add_argument("--rank", type=_natural, metavar="K", help="the log of this rank; by default the driver's")
    logs.add_argument("--follow", "-f", action="store_true", help="keep printing until the attempt has ended")
    logs.set_defaults(command=_logs)


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    report = commands.add_parser(
        "report",
        help="write a report on a job, one HTML file",
        description="Write a report on how a job was trained, and how well, to one HTML file, from the job's storage;"
        " if a file has several jobs, each gets its own.",
    )
    _add_place(report, "of its artifact, ")
    _add_namespace(report)
    report.add_argument("--output", type=Path, metavar="FILE", help="where to write it; by default to <job>.html here")
    report.set_defaults(command=_report)


def _add_place(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "job",
        metavar="JOB",
        help=f"file with jobs that ran here; folder or URI of a job, {more}or of a storage with one job; or NAME or"
        " KIND/NAME of a job on a cluster, whose storage is read with the credentials in the environment",
    )
    _add_set(parser)
    _add_storage(parser)


def _add_namespace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", "-n", help="namespace on the cluster, instead of the kubeconfig's")


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML or JSON file with one or more jobs")
    _add_set(parser)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="PATH=VALUE",
        help="override a field, such as spec.training.maxSteps=100, in every job that can have it; a part of a choice,"
        " such as spec.method.lora.rank=4, only in those that have made the choice, if any has; may be repeated",
    )


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        dest="overrides",
        type=lambda uri: f"spec.storage.uri={json.dumps(uri)}",
        metavar="URI",
        help="folder or s3://bucket/path, instead of spec.storage.uri",
    )


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 0 or more")
    return int(text)


def _port(text: str) -> int:
    port = _positive(text)
    if port > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port; the highest is {_LAST_PORT}")
    return port


def _run(arguments: argparse.Namespace) -> int:
    from pretune_cli.run import run

    return run(arguments)


def _validate(arguments: argparse.Namespace) -> int:
    from pretune_cli.validate import validate

    return validate(arguments.files, arguments.overrides)


def _preflight(arguments: argparse.Namespace) -> int:
    from pretune_cli.preflight import preflight

    return preflight(arguments)


def _render(arguments: argparse.Namespace) -> int:
    from pretune_cli.render import render

    return render(arguments)


def _submit(arguments: argparse.Namespace) -> int:
    from pretune_cli.submit import submit

    return submit(arguments)


def _status(arguments: argparse.Namespace) -> int:
    from pretune_cli.status import status

    return status(arguments)


def _logs(arguments: argparse.Namespace) -> int:
    from pretune_cli.logs import logs

    return logs(arguments)


def _report(arguments: argparse.Namespace) -> int:
    from pretune_cli.report.command import report

    return report(arguments)


if __name__ == "__main__":
    sys.exit(main())
