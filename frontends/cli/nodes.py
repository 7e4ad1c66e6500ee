"""The node that a command with the argument DIR is about."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit
from truckee.frontends.node import creation

Command = Callable[..., Any]


def directory_argument(command: Command) -> Command:
    """Give a command the argument DIR."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.argument("directory", required=False, type=kind)(command)


def place_of(settings: Settings, directory: Path | None) -> Path:
    """Return the node directory; CommandError when there is no node."""
    place = (directory or settings.directory).expanduser().absolute()
    if creation.config_path(place) is None:
        why = "there is no truckee.cfg"
        raise CommandError(f"no node in {place}", why, "-d DIR", Exit.NOT_FOUND)
    return place
