"""``truckee status``: what a running node says of itself.

Knows how figures are shown to people; asks the node over its control socket. No name, path or
capability is among them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from truckee.core.errors import ServerGoneError
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.nodes import directory_argument, place_of
from truckee.frontends.cli.output import CommandError, Exit, say, say_object, warn
from truckee.frontends.node import control, creation, process
from truckee.frontends.node.logs import escape

_PATIENCE = 10.0
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")

Figures = Mapping[str, Any]


@click.command()
@directory_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object with every figure.")
@click.pass_obj
def status(settings: Settings, directory: Path | None, as_json: bool) -> int:
    """Show what the running node does."""
    config = creation.load(place_of(settings, directory))
    try:
        answer = control.ask(config.private, {"do": "status"}, _PATIENCE)
    except ServerGoneError as error:
        runs = process.running_pid(config.directory) is not None
        why = str(error) if runs else "it does not run"
        advice = "" if runs else f"truckee start {config.directory}"
        raise CommandError(
            f"no answer from the node in {config.directory}", why, advice, Exit.UNREACHABLE
        ) from None
    if as_json:
        say_object({"running": True, **answer})
        return Exit.OK
    for line in lines(answer):
        say(escape(line))
    for warning in warnings(answer):
        warn(warning)
    return Exit.OK


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Return what is shown of an answer."""
    f: Figures = answer["figures"]
    since = duration(f["uptime_seconds"])
    yield f"Truckee {answer['version']} is up (pid {answer['pid']}), for {since}"
    strangers = {s["door"]: s["value"] for s in f["strangers"]}
    for session in f["sessions"]:
        door, count = session["door"], session["value"]
        places = ", ".join(f"{host}:{port}" for host, port in answer["doors"].get(door, ()))
        yield f"{door.upper():<9}{places}  {count} sessions, {strangers[door]} without a login"
    if answer["metrics"] is not None:
        host, port = answer["metrics"]["host"], answer["metrics"]["port"]
        yield f"Metrics  http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    yield (
        f"Accounts {f['accounts']} usable, {f['accounts_bad_lines']} bad lines; "
        f"{f['banned_sources']} sources banned"
    )
    yield (
        f"Logins   {total(f, 'logins', outcome='ok')} ok, "
        f"{total(f, 'logins', outcome='denied')} denied; {f['bcrypt_waiting']} wait"
    )
    yield (
        f"Files    {total(f, 'transfers', verb='get')} sent, "
        f"{total(f, 'transfers', verb='put') + total(f, 'transfers', verb='append')} received; "
        f"{f['commits_pending']} being stored, {f['commits_failed']} failed"
    )
    sent, received = total(f, "sent_bytes"), total(f, "received_bytes")
    yield f"Bytes    {size(sent)} sent, {size(received)} received"
    yield f"Spool    {size(f['spool_bytes'])} of {size(f['spool_limit_bytes'])}"
    present, absent = f["stores_present"], f["stores_absent"]
    yield f"Stores   {present} of {present + absent} are there"
    yield (
        f"Process  {size(f['resident_memory_bytes'])}, {f['open_files']} open files, "
        f"longest turn {f['reactor_delay_seconds'] * 1000:.0f} ms"
    )


def warnings(answer: Mapping[str, Any]) -> Iterator[str]:
    """Return what somebody should look at."""
    f: Figures = answer["figures"]
    if answer["account_file"] != "ok":
        yield f"the account file is not usable, the old accounts stay: {answer['account_file']}"
    if f["accounts_bad_lines"]:
        yield f"{f['accounts_bad_lines']} bad lines in the account file: truckee account check"
    if f["stores_absent"]:
        yield f"{f['stores_absent']} stores are not there"


def total(figures: Figures, name: str, **labels: str) -> int:
    """Return the sum of a figure over all samples with these labels."""
    samples = figures[name]
    return sum(s["value"] for s in samples if all(s[k] == v for k, v in labels.items()))


def size(count: float) -> str:
    """Return a number of bytes for people."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return a time span for people."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 2:
        return f"{seconds:.0f} s"
    if hours < 2:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if days < 3 else f"{days:.0f} days"
