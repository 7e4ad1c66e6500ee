"""The command line. Knows which module holds which command, and how errors are shown.

Commands are imported when they are asked for. This is the one place that knows the global reactor:
commands that run a node get it from here.
"""

import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

COMMANDS = {
    "start": "truckee.frontends.cli.starting:start",
    "run": "truckee.frontends.cli.starting:run",
    "create": "truckee.frontends.cli.starting:create",
    "status": "truckee.frontends.cli.status:status",
    "doctor": "truckee.frontends.cli.doctor:doctor",
    "account": "truckee.frontends.cli.account:account",
    "debug": "truckee.frontends.cli.debug:debug",
}
DEFAULT_DIRECTORY = "~/.truckee"


@dataclass(slots=True)
class Settings:
    """What holds for every command."""

    directory: Path
    debug: bool
    reactor: Callable[[], Any]


def default_directory() -> Path:
    """Return the node directory of commands that name none."""
    return Path(os.environ.get("TRUCKEE_DIR", DEFAULT_DIRECTORY)).expanduser()


def _reactor() -> Any:  # noqa: ANN401 - the reactor has many interfaces
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    # Twisted counts by the wall clock: set back, it would let nothing time out for as long
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    return reactor


class _Commands(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None when there is none of that name."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"truckee {version('truckee')}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-d",
    "--directory",
    envvar="TRUCKEE_DIR",
    default=DEFAULT_DIRECTORY,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The node directory.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.pass_context
def cli(ctx: click.Context, directory: Path, debug: bool) -> None:
    """Keep files on storage that can neither read nor change them."""
    ctx.obj = Settings(directory.expanduser(), debug, _reactor)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    from truckee.core.errors import TruckeeError  # noqa: PLC0415 - keeps --version quick
    from truckee.frontends.cli.output import (  # noqa: PLC0415
        CommandError,
        Exit,
        code_for,
        fail,
    )

    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        code = cli.main(given, prog_name="truckee", standalone_mode=False)
    except CommandError as error:
        return fail(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except click.UsageError as error:
        advice = f"{error.ctx.command_path} --help" if error.ctx else "truckee --help"
        return fail(CommandError("wrong usage", error.format_message(), advice, Exit.USAGE))
    except (click.Abort, KeyboardInterrupt):
        return fail(CommandError("interrupted", code=Exit.INTERRUPTED))
    except click.ClickException as error:
        return fail(CommandError(error.format_message()))
    except (TruckeeError, OSError) as error:
        if debug:
            traceback.print_exc()
        why = error.strerror or "" if isinstance(error, OSError) else str(error)
        return fail(CommandError("that did not work", why, code=code_for(error)))
    except Exception as error:  # noqa: BLE001 - the last net: no traceback for people
        return _crashed(error, debug)
    return code if isinstance(code, int) else Exit.OK


def _crashed(error: Exception, debug: bool) -> int:
    """Tell of a fault of our own; the traceback goes to a file, without secrets."""
    from truckee.core import files  # noqa: PLC0415
    from truckee.frontends.cli.output import CommandError, fail  # noqa: PLC0415
    from truckee.frontends.node.logs import redact  # noqa: PLC0415

    if debug:
        traceback.print_exception(error)
    where = ""
    logs = default_directory() / "logs"
    if logs.is_dir():
        report = logs / time.strftime("crash-%Y%m%d-%H%M%S.txt", time.gmtime())
        with suppress(OSError):
            files.create(report, redact("".join(traceback.format_exception(error))).encode())
            where = f"; the details are in {report}"
    why = f"{type(error).__name__}{where}"
    return fail(CommandError("internal error", why, "the same command with --debug in front"))


def main() -> None:
    """Run as a program."""
    sys.exit(run())
