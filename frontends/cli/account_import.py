"""``truckee account import``: accounts of another file, those of Tahoe-LAFS among them.

Knows that such files have the grammar of our own; touches both files. Passwords that stand there as
plain text are hashed on the way.
"""

from pathlib import Path

import click

from truckee.auth import account_edits
from truckee.auth.accounts import Policy, parse
from truckee.auth.passwords import hash_password
from truckee.core.errors import AccountError
from truckee.frontends.cli import account_place as place
from truckee.frontends.cli.account_place import in_directory
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit, say, warn
from truckee.frontends.node.logs import escape

_POLICY = Policy(plaintext="allow", key=b"only looked at")


@click.command(name="import")
@click.argument("file", metavar="FILE|-")
@in_directory
def import_(settings: Settings, directory: Path | None, file: str) -> int:
    """Add the accounts of an account file of Tahoe-LAFS, or of another node."""
    config = place.node(settings, directory)
    data = place.read(file, "FILE").encode("utf-8")
    try:
        table = parse(data, _POLICY)
        source = account_edits.Document.decode(data)
    except AccountError as error:
        raise CommandError(f"cannot import {file}", str(error)) from None
    for bad in table.bad_lines:
        warn(f"not imported: {bad}")
    lines = account_edits.lines_to_import(source, list(table.accounts), hash_password)
    problems = [(name, "its password is over 72 bytes") for name in table.accounts.keys() - lines]
    done: list[str] = []

    def change(document: account_edits.Document) -> None:
        for name, fields in lines.items():
            try:
                account_edits.add_lines(document, name, fields)
                done.append(name)
            except AccountError as error:
                problems.append((name, str(error)))

    place.edit(config, "file", change, new=True)
    for name, why in problems:
        warn(f"not imported: {name}: {why}")
    say(f"{len(done)} accounts imported{': ' if done else ''}{escape(', '.join(done))}")
    return Exit.PARTLY if problems or table.bad_lines else Exit.OK
