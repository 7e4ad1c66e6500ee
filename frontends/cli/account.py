"""``truckee account``: the account file, edited.

Knows the options; the edits are `truckee.auth.account_edits`. Touches the account file and the
terminal, and for a new root directory the grid: that of the running node, or, when none runs, in
this process. Capabilities are taken from files or standard input and never shown.
"""

import ipaddress
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from truckee.auth import account_edits
from truckee.auth.accounts import Account, AccountTable, check_name
from truckee.auth.passwords import hash_password
from truckee.core import files
from truckee.core.config import NodeConfig
from truckee.core.errors import AccountError, ServerGoneError
from truckee.frontends.cli import (
    account_import,
    account_keys,
    account_logins,
    account_trial,
    passwords,
)
from truckee.frontends.cli import account_place as place
from truckee.frontends.cli.account_place import in_directory
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit, code_for, say, say_object, warn
from truckee.frontends.node import control, first_account, process
from truckee.frontends.node.logs import escape

REMOVED = "removed-accounts"


@click.group()
def account() -> None:
    """Add, change and remove accounts; a running node sees it within seconds."""


account.add_command(account_keys.key)
account.add_command(account_trial.test)
account.add_command(account_logins.logins)
account.add_command(account_import.import_)


@account.command()
@click.argument("name")
@click.option("--root", default="new", metavar="new|@FILE|-", help="The root directory.")
@click.option("--generate", is_flag=True, help="Make up a password.")
@click.option("--password-stdin", is_flag=True, help="Read it from standard input.")
@click.option("--no-password", is_flag=True, help="Keys only.")
@click.option("--key", "keys", multiple=True, metavar="FILE", help="An SSH public key file.")
@click.option("--read-only", is_flag=True, help="May change nothing.")
@click.option("--protocols", metavar="ftp,sftp,web", help="Frontends it may use.")
@click.option("--from", "sources", metavar="NETWORKS", help="Addresses it may come from.")
@click.option("--max-sessions", type=click.IntRange(1), help="Sessions at a time.")
@click.option("--expires", metavar="YYYY-MM-DD", help="The last day.")
@in_directory
def add(
    settings: Settings,
    directory: Path | None,
    name: str,
    root: str,
    generate: bool,
    password_stdin: bool,
    no_password: bool,
    keys: tuple[str, ...],
    read_only: bool,
    protocols: str | None,
    sources: str | None,
    max_sessions: int | None,
    expires: str | None,
) -> int:
    """Add an account with a directory of its own."""
    config = place.node(settings, directory)
    if sum((generate, password_stdin, no_password)) > 1:
        raise click.UsageError("--generate, --password-stdin and --no-password exclude each other")
    options = _options(read_only, protocols, sources, max_sessions, expires)
    found_keys = [key for file in keys for key in place.keys_in(file)]
    _check_new(config, name)
    password = None if no_password else _password(name, generate, password_stdin)
    cap = _root(settings, config, root)
    secret = "-" if password is None else hash_password(password.encode("utf-8", "surrogateescape"))

    def change(document: account_edits.Document) -> None:
        account_edits.add(document, name, secret, cap, options)
        for key in found_keys:
            account_edits.add_key(document, name, key)

    place.edit(config, name, change, new=True)
    say(f"account {escape(name)} added")
    if generate and password is not None:
        _hand_over(config, name, password)
    return Exit.OK


def _check_new(config: NodeConfig, name: str) -> None:
    """Complain about the name before anybody types a password or a directory is made."""
    try:
        check_name(name, anonymous=config.access.anonymous_rootcap is not None)
        path = config.access.accounts_file
        if path.exists() and account_edits.read(path).has(name):
            what = f"cannot add the account {escape(name)}"
            raise CommandError(what, "it is there already", "another name", Exit.CONFLICT)
    except AccountError as error:
        what = f"cannot add the account {escape(name)}"
        raise CommandError(what, str(error), place.rights(error)) from None


def _options(
    read_only: bool,
    protocols: str | None,
    sources: str | None,
    max_sessions: int | None,
    expires: str | None,
) -> list[str]:
    given = {
        "proto": protocols,
        "from": sources,
        "max-sessions": max_sessions,
        "expires": expires,
    }
    named = [f"{name}={value}" for name, value in given.items() if value is not None]
    return ["ro", *named] if read_only else named


def _password(name: str, generate: bool, stdin: bool) -> str:
    return passwords.generate() if generate else passwords.ask(name, stdin=stdin)


def _hand_over(config: NodeConfig, name: str, password: str) -> None:
    """Show a made-up password on a terminal; elsewhere leave it in a private file."""
    if sys.stdout.isatty():
        say(f"password  {password}   (shown once)")
        return
    path = _kept_password(config, name)
    files.replace(path, f"{password}\n".encode("ascii"))
    say(f"its password is in {path}")


def _kept_password(config: NodeConfig, name: str) -> Path:
    return config.private / f"password-{check_name(name)}"


def _forget_password(config: NodeConfig, old: AccountTable, name: str) -> None:
    """Remove the files that hold the password of before."""
    first_account.password_changed(config, old, name)
    files.remove(_kept_password(config, name))


def _root(settings: Settings, config: NodeConfig, root: str) -> str:
    """Return the root capability: read from a file, or that of a new directory."""
    if root == "new":
        return _new_directory(settings, config)
    if root == "-" or root.startswith("@"):
        return place.read(root.removeprefix("@"), "--root").strip()
    raise CommandError("--root", "a capability is given by file", "--root @FILE", Exit.USAGE)


def _new_directory(settings: Settings, config: NodeConfig) -> str:
    mark = process.RunningFile(config.directory)
    process.harden()
    try:
        mark.take()
    except process.AlreadyRunningError:
        return str(control.ask(config.private, {"do": "new-directory"})["cap"])
    try:
        return _create_here(config, settings.reactor())
    finally:
        mark.release()


def _create_here(config: NodeConfig, reactor: Any) -> str:  # noqa: ANN401
    """Make a directory with the stores opened in this process."""
    from truckee.frontends.node.storage import Storage  # noqa: PLC0415 - most account commands need no grid

    storage = Storage(config, reactor)
    results: list[str | Failure] = []

    async def work() -> None:
        try:
            await storage.start()
            results.append(await storage.create_directory())
        except Exception:  # noqa: BLE001 - raised again below
            results.append(Failure())
        finally:
            await storage.stop()
            reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work()))
    reactor.run()
    (result,) = results
    if isinstance(result, Failure):
        error = result.value
        code = code_for(error) if isinstance(error, Exception) else Exit.FAILED
        raise CommandError("cannot make the root directory", str(error), code=code)
    return result


def _described(name: str, found: Account) -> dict[str, object]:
    o = found.options
    return {
        "name": name,
        "locked": found.locked,
        "password": found.password is not None,
        "keys": len(found.keys),
        "read_only": o.readonly or found.rootcap.is_readonly,
        "protocols": None if o.protocols is None else sorted(o.protocols),
        "from": None if o.sources is None else [str(n) for n in o.sources],
        "max_sessions": o.max_sessions,
        "expires": None if o.expires is None else o.expires.isoformat(),
        "expired": found.is_expired(datetime.now(UTC).date()),
    }


def _keys(count: object) -> str:
    return "1 key" if count == 1 else f"{count} keys"


def _shown(value: object) -> str:
    """Return a field for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)


def _line(fields: dict[str, object]) -> str:
    notes = [
        "locked" if fields["locked"] else "",
        "password" if fields["password"] else "",
        _keys(fields["keys"]) if fields["keys"] else "",
        "read-only" if fields["read_only"] else "",
        f"only {_shown(fields['protocols'])}" if fields["protocols"] is not None else "",
        f"only from {_shown(fields['from'])}" if fields["from"] is not None else "",
        f"{fields['max_sessions']} at a time" if fields["max_sessions"] is not None else "",
        "expired" if fields["expired"] else "",
        f"until {fields['expires']}" if fields["expires"] and not fields["expired"] else "",
    ]
    return f"{escape(str(fields['name']))}  {', '.join(n for n in notes if n)}".rstrip()


@account.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One object per account.")
@in_directory
def list_(settings: Settings, directory: Path | None, as_json: bool) -> int:
    """List the accounts."""
    table = place.table(place.node(settings, directory))
    for name, found in sorted(table.accounts.items()):
        fields = _described(name, found)
        if as_json:
            say_object(fields)
        else:
            say(_line(fields))
    return place.tell_bad(table)


@account.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One object.")
@in_directory
def show(settings: Settings, directory: Path | None, name: str, as_json: bool) -> int:
    """Show what one account may do."""
    found = place.table(place.node(settings, directory)).get(name)
    if found is None:
        why = "there is no usable account of that name"
        raise CommandError(
            f"no account {escape(name)}", why, "truckee account list", Exit.NOT_FOUND
        )
    fields = _described(found.name, found)
    if as_json:
        say_object(fields)
        return Exit.OK
    for key, value in fields.items():
        say(f"{key.replace('_', ' '):<13} {escape(_shown(value))}")
    return Exit.OK


@account.command()
@click.argument("name", required=False)
@click.option("--generate", is_flag=True, help="Make up a password.")
@click.option("--password-stdin", is_flag=True, help="Read it from standard input.")
@in_directory
def passwd(
    settings: Settings,
    directory: Path | None,
    name: str | None,
    generate: bool,
    password_stdin: bool,
) -> int:
    """Change the password of an account (of your own, without a name)."""
    config = place.node(settings, directory)
    name = name or first_account.user_name()
    if not account_edits.read(config.access.accounts_file).has(name):
        why = "there is no account of that name"
        what = f"cannot change the password of {escape(name)}"
        raise CommandError(what, why, "truckee account list", Exit.NOT_FOUND)
    password = _password(name, generate, password_stdin)
    hashed = hash_password(password.encode("utf-8", "surrogateescape"))
    old = place.table(config)
    place.edit(config, name, lambda d: account_edits.set_password(d, name, hashed))
    _forget_password(config, old, name)
    say(f"the password of {escape(name)} is changed")
    if generate:
        _hand_over(config, name, password)
    return Exit.OK


@account.command()
@click.argument("name")
@in_directory
def lock(settings: Settings, directory: Path | None, name: str) -> int:
    """Refuse every login of an account, and end its sessions."""
    place.edit(place.node(settings, directory), name, lambda d: account_edits.lock(d, name))
    say(f"account {escape(name)} is locked")
    return Exit.OK


@account.command()
@click.argument("name")
@in_directory
def unlock(settings: Settings, directory: Path | None, name: str) -> int:
    """Undo a lock."""
    place.edit(place.node(settings, directory), name, lambda d: account_edits.unlock(d, name))
    say(f"account {escape(name)} is unlocked")
    return Exit.OK


@account.command()
@click.argument("name")
@in_directory
def remove(settings: Settings, directory: Path | None, name: str) -> int:
    """Remove an account; its files stay, and its root capability is kept."""
    config = place.node(settings, directory)
    kept = config.private / REMOVED
    old = place.table(config)

    def change(document: account_edits.Document) -> None:
        lines = [document.lines[n] for n in document.lines_of(name)]
        account_edits.remove(document, name)
        _keep(kept, lines)

    place.edit(config, name, change)
    _forget_password(config, old, name)
    say(f"account {escape(name)} is removed; its files are untouched, its lines kept in {kept}")
    return Exit.OK


def _keep(path: Path, lines: Sequence[str]) -> None:
    day = datetime.now(UTC).date().isoformat()
    try:
        before = files.read(path, place.SMALL * 16)
    except FileNotFoundError:
        before = b""
    files.replace(path, before + "".join(f"# {day}\n{line}\n" for line in lines).encode("utf-8"))


@account.command(name="hash")
@click.option("--print", "show_hash", is_flag=True, help="Ask for a password, print its hash.")
@click.option("--password-stdin", is_flag=True, help="With --print: read it from standard input.")
@in_directory
def hash_(
    settings: Settings,
    directory: Path | None,
    show_hash: bool,
    password_stdin: bool,
) -> int:
    """Turn the file's plaintext passwords into hashes (or print one, for a line by hand)."""
    if show_hash:
        password = passwords.ask("the account", stdin=password_stdin)
        say(hash_password(password.encode("utf-8", "surrogateescape")))
        return Exit.OK
    config = place.node(settings, directory)
    done: list[str] = []
    place.edit(
        config, "file", lambda d: done.extend(account_edits.hash_plaintext(d, hash_password))
    )
    say(f"{len(done)} passwords hashed" if done else "no password was in plaintext")
    return Exit.OK


@account.command()
@in_directory
def check(settings: Settings, directory: Path | None) -> int:
    """Read the account file as the node does, and say what is wrong with it."""
    table = place.table(place.node(settings, directory))
    code = place.tell_bad(table)
    if table.plaintext_lines:
        lines = ", ".join(map(str, table.plaintext_lines))
        warn(f"passwords in plaintext on lines {lines}; truckee account hash converts them")
    say(f"{len(table.accounts)} usable accounts, {len(table.bad_lines)} bad lines")
    if not table.accounts:
        raise CommandError("nobody can log in", "the file has no usable account")
    return code


def _asked(config: NodeConfig, question: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the running node answers."""
    try:
        return control.ask(config.private, question)
    except ServerGoneError as error:
        runs = process.running_pid(config.directory) is not None
        why = str(error) if runs else "it does not run, and forgets bans when it stops"
        what = f"no answer from the node in {config.directory}"
        raise CommandError(what, why, code=Exit.UNREACHABLE) from None


@account.command()
@click.option("--clear", metavar="ADDRESS", help="Let this address in again.")
@click.option("--json", "as_json", is_flag=True, help="One object per ban.")
@in_directory
def bans(settings: Settings, directory: Path | None, clear: str | None, as_json: bool) -> int:
    """Show which addresses the running node shuts out for guessing passwords."""
    config = place.node(settings, directory)
    if clear is not None:
        try:
            ipaddress.ip_network(clear, strict=False)
        except ValueError:
            raise click.UsageError(
                "--clear takes an address, or a network that is shut out"
            ) from None
        known = _asked(config, {"do": "unban", "source": clear})["done"]
        say(f"{clear} may try again" if known else f"{clear} was not shut out")
        return Exit.OK
    for source, seconds in _asked(config, {"do": "bans"})["bans"]:
        if as_json:
            say_object({"source": source, "seconds": seconds})
        else:
            say(f"{source}  {seconds} s left")
    return Exit.OK
