"""The account file as commands meet it: found, read, changed, and a running node told of it.

Touches the account file, key files and the control socket.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from truckee.auth import account_edits, public_keys
from truckee.auth.accounts import AccountTable
from truckee.auth.public_keys import PublicKey
from truckee.core import files
from truckee.core.config import NodeConfig
from truckee.core.errors import AccountError, ConfigError, ServerGoneError
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit, warn
from truckee.frontends.node import control, creation, first_account
from truckee.frontends.node.logs import escape

SMALL = 1 << 20
_NOTICE = 5.0  # seconds for a running node to read the accounts

Command = Callable[..., Any]


def node(settings: Settings, directory: Path | None) -> NodeConfig:
    """Return the configuration of the node that a command is about."""
    place = (directory or settings.directory).expanduser().absolute()
    if creation.config_path(place) is None:
        why = "there is no truckee.cfg"
        raise CommandError(f"no node in {place}", why, "-d DIR", Exit.NOT_FOUND)
    return creation.load(place)


def in_directory(command: Command) -> Command:
    """Give a command the settings and the option ``-d``."""
    kind = click.Path(path_type=Path, file_okay=False)
    option = click.option("-d", "--directory", type=kind, help="The node directory.")
    return option(click.pass_obj(command))


def edit(
    config: NodeConfig,
    name: str,
    change: account_edits.Change,
    *,
    new: bool = False,
    advice: str = "truckee account list",
) -> None:
    """Change the account file, and tell a running node; `name` and `advice` are for the error."""
    try:
        account_edits.edit(config.access.accounts_file, change, create=new)
    except AccountError as error:
        code = Exit.FAILED
        if "there is no " in str(error):
            code = Exit.NOT_FOUND
        elif "already" in str(error):
            code = Exit.CONFLICT
        what = f"cannot change the account {escape(name)}"
        raise CommandError(what, str(error), rights(error) or advice, code) from None
    with suppress(ServerGoneError):  # a node that runs need not find out by itself
        control.ask(config.private, {"do": "accounts-changed"}, _NOTICE)


def table(config: NodeConfig) -> AccountTable:
    """Return the accounts as the node sees them."""
    try:
        return first_account.read_table(config.access.accounts_file, config)
    except AccountError as error:
        raise CommandError("cannot read the account file", str(error), rights(error)) from None


def rights(error: Exception) -> str:
    """Return what helps when the account file has the wrong mode or owner, or nothing."""
    if "open to others" in str(error):
        return "chmod go-rwx on it"
    return "the command as that user: runuser -u USER --" if "belongs to" in str(error) else ""


def tell_bad(found: AccountTable) -> int:
    """Warn of the bad lines of the file; return the exit code that says so."""
    for bad in found.bad_lines:
        warn(str(bad))
    return Exit.PARTLY if found.bad_lines else Exit.OK


def keys_in(file: str) -> list[PublicKey]:
    """Return the keys of a file of OpenSSH public keys."""
    try:
        return public_keys.parse_file(read(file, "--key"))
    except AccountError as error:
        raise CommandError(f"cannot take the key in {file}", str(error)) from None


def read(file: str, option: str) -> str:
    """Return the text of a file, or of standard input for ``-``."""
    try:
        if file == "-":
            return sys.stdin.read(SMALL)
        return files.read(Path(file), SMALL, private=False).decode("utf-8", "replace")
    except (OSError, ConfigError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandError(
            f"{option}: cannot read {file}", why or "", code=Exit.NOT_FOUND
        ) from None
