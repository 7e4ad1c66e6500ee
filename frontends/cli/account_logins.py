"""``truckee account logins``: who came in lately, from where, and who was turned away.

Knows how that history (`truckee.frontends.gate.history`) is shown; reads it from the private
folder, after a running node has written down what it still holds.
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from truckee.core.config import NodeConfig
from truckee.core.errors import ServerGoneError
from truckee.frontends.cli import account_place as place
from truckee.frontends.cli.account_place import in_directory
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit, say, say_object
from truckee.frontends.gate import history
from truckee.frontends.gate.history import LoginEntry
from truckee.frontends.node import control
from truckee.frontends.node.logs import escape

_PATIENCE = 5.0


@click.command()
@click.argument("name", required=False)
@click.option("-n", "--lines", "count", default=20, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="One object per line.")
@in_directory
def logins(
    settings: Settings, directory: Path | None, name: str | None, count: int, as_json: bool
) -> int:
    """Show the last logins of an account, or the last one of each."""
    config = place.node(settings, directory)
    accounts = place.table(config).accounts
    with suppress(ServerGoneError):  # a running node writes down what it holds; none, nothing
        control.ask(config.private, {"do": "flush-logins"}, _PATIENCE)
    if name is None:
        return show_all(config, sorted(accounts), as_json=as_json)
    entries = history.read(config.private, name)
    if name not in accounts and not entries:
        what, why = f"no account {escape(name)}", "there is no usable account of that name"
        raise CommandError(what, why, "truckee account list", Exit.NOT_FOUND)
    for entry in entries[-count:]:
        if as_json:
            say_object({"account": name, **fields(entry)})
        else:
            say(line(entry))
    return Exit.OK


def show_all(config: NodeConfig, names: list[str], *, as_json: bool) -> int:
    """Print the last good login of each account, and how many were turned away since."""
    for name in names:
        entries = history.read(config.private, name)
        good = max((i for i, e in enumerate(entries) if e.outcome == "ok"), default=-1)
        since = sum(e.times for e in entries[good + 1 :])
        last = entries[good] if good >= 0 else None
        if as_json:
            shown = None if last is None else fields(last)
            say_object({"account": name, "last": shown, "failed_since": since})
            continue
        text = "never" if last is None else line(last)
        say(f"{escape(name)}  {text}" + (f"; {since} failed since" if since else ""))
    return Exit.OK


def fields(entry: LoginEntry) -> dict[str, object]:
    """Return an entry for programs."""
    return {**entry.fields(), "time": _time(entry).isoformat().replace("+00:00", "Z")}


def line(entry: LoginEntry) -> str:
    """Return an entry for people."""
    when = _time(entry).strftime("%Y-%m-%d %H:%M:%SZ")
    times = f"  x{entry.times}" if entry.times > 1 else ""
    return f"{when}  {entry.door}  {entry.method}  {entry.outcome}  {escape(entry.peer)}{times}"


def _time(entry: LoginEntry) -> datetime:
    try:
        return datetime.fromtimestamp(entry.when, UTC)
    except (ValueError, OverflowError, OSError):
        raise CommandError("the history of logins is damaged") from None
