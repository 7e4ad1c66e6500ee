"""``truckee account test``: the way of a login, step by step, and where it ends.

Knows what the checkers of a node look at, in their order; touches the account file, the terminal,
and for a name that the file does not mention the account URL, which is asked from here. No node
needs to run, and nothing is counted against anybody.
"""

import hmac
import ipaddress
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import click
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from truckee.auth.account_file import AccountFile
from truckee.auth.accounts import (
    PROTOCOLS,
    Account,
    BcryptHash,
    PlaintextDigest,
    plaintext_digest,
    today,
)
from truckee.auth.credentials import PasswordLogin, name_of
from truckee.auth.passwords import MAXIMUM_PASSWORD
from truckee.auth.url_checker import AccountURLChecker
from truckee.core import files
from truckee.core.config import NodeConfig
from truckee.core.cpu import InlineCpu
from truckee.core.errors import AccountError, TemporaryLoginError
from truckee.frontends.cli import account_place as place
from truckee.frontends.cli.account_place import in_directory
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit, say, say_object
from truckee.frontends.node.logs import escape


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a login needs, whether it is so, and what to do when not."""

    name: str
    good: bool
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is tried."""

    name: str
    protocol: str | None
    source: str | None
    key_file: str | None
    password: Callable[[], bytes]


@click.command()
@click.argument("name")
@click.option("--protocol", type=click.Choice(sorted(PROTOCOLS)), help="The door to come in by.")
@click.option("--from", "source", metavar="ADDRESS", help="The address to come from.")
@click.option("--key", "key_file", metavar="FILE", help="Try this public key, and no password.")
@click.option("--password-stdin", is_flag=True, help="Read it from standard input.")
@click.option("--json", "as_json", is_flag=True, help="One object.")
@in_directory
def test(
    settings: Settings,
    directory: Path | None,
    name: str,
    protocol: str | None,
    source: str | None,
    key_file: str | None,
    password_stdin: bool,
    as_json: bool,
) -> int:
    """Say whether NAME could log in, and what keeps them out."""
    if source is not None and not _is_address(source):
        raise click.UsageError("--from takes an address")
    config = place.node(settings, directory)
    attempt = Attempt(
        name_of(name), protocol, source, key_file, lambda: _password(name, stdin=password_stdin)
    )
    accounts = _load(config)
    steps = []
    for step in _steps(attempt, accounts, config, settings):
        steps.append(step)
        if not as_json:
            say(f"{'ok  ' if step.good else 'FAIL'}  {step.name:<9} {escape(step.text)}")
        if not step.good:
            break
    good = steps[-1].good
    if as_json:
        told = [{"step": s.name, "ok": s.good, "text": s.text} for s in steps]
        say_object({"name": name, "ok": good, "steps": told})
    elif not good and steps[-1].advice:
        say(f"      try: {steps[-1].advice}")
    return Exit.OK if good else Exit.FAILED


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _password(name: str, *, stdin: bool) -> bytes:
    if stdin:
        return sys.stdin.buffer.readline().rstrip(b"\r\n")
    if not sys.stdin.isatty():
        why = "standard input is not a terminal"
        raise CommandError("no password was given", why, "--password-stdin, or --key", Exit.USAGE)
    typed: str = click.prompt(f"Password for {name}", hide_input=True, err=True)
    return typed.encode("utf-8", "surrogateescape")


def _load(config: NodeConfig) -> AccountFile:
    """Return the file as the node reads it, with what it remembers of expired accounts."""
    access = config.access
    accounts = AccountFile(
        access.accounts_file,
        Clock(),
        InlineCpu(),
        plaintext=access.accounts_plaintext,
        permissions=access.accounts_permissions,
        anonymous=access.anonymous_rootcap is not None,
        may_be_empty=True,
    )
    problems: list[Failure] = []
    _ = Deferred.fromCoroutine(accounts.load()).addErrback(problems.append)
    for failure in problems:
        failure.trap(AccountError)
        raise CommandError("cannot read the account file", failure.getErrorMessage())
    return accounts


def _steps(
    attempt: Attempt, accounts: AccountFile, config: NodeConfig, settings: Settings
) -> Iterator[Step]:
    table = accounts.table
    account = table.get(attempt.name)
    if account is not None:
        yield Step("name", True, "the account file has it")
        yield from _of_account(attempt, account, accounts)
        yield from _door(attempt, config)
        yield Step("root", True, "may only read" if _reads_only(account) else "may read and write")
    elif table.mentions(attempt.name):
        reasons = [str(bad) for bad in table.bad_lines if bad.name == attempt.name]
        text = f"switched off by a bad line: {'; '.join(reasons)}".rstrip(": ")
        yield Step("name", False, text, "truckee account check")
    elif config.access.accounts_url is None:
        advice = "truckee account list"
        yield Step("name", False, "there is no account of that name", advice)
    elif attempt.key_file is not None:
        yield Step("name", False, "not in the account file, and only that has keys")
    else:
        yield Step("name", True, "not in the account file: the account URL is asked")
        yield _of_url(attempt, config, settings)
        yield from _door(attempt, config)


def _of_account(attempt: Attempt, account: Account, accounts: AccountFile) -> Iterator[Step]:
    options, name = account.options, account.name
    text = "every login is refused" if account.locked else "not locked"
    yield Step("lock", not account.locked, text, f"truckee account unlock {name}")
    last = options.expires
    expired = accounts.is_expired(account, today())
    yield Step("date", not expired, f"the last day {'was' if expired else 'is'} {last or 'never'}")
    doors = sorted(options.protocols if options.protocols is not None else PROTOCOLS)
    allowed = attempt.protocol is None or options.allows_protocol(attempt.protocol)
    yield Step("protocol", allowed, f"may use {', '.join(doors)}")
    networks = ", ".join(map(str, options.sources)) if options.sources is not None else "anywhere"
    allowed = attempt.source is None or options.allows_source(attempt.source)
    yield Step("address", allowed, f"may come from {networks}")
    if attempt.key_file is not None:
        yield _key(attempt.key_file, account)
    else:
        yield from _secret(attempt, account, accounts)


def _door(attempt: Attempt, config: NodeConfig) -> Iterator[Step]:
    """Say whether the door that is asked for is open, and takes this kind of credential."""
    by_key = attempt.key_file is not None
    match attempt.protocol:
        case "ftp":
            on = config.ftp.enabled
            yield Step("door", on, "[ftpd] is on" if on else "[ftpd] is off")
            if by_key:
                yield Step("door", False, "FTP knows no keys")
        case "sftp":
            on = config.sftp.enabled
            yield Step("door", on, "[sftpd] is on" if on else "[sftpd] is off")
            if not by_key and not config.sftp.password_auth:
                yield Step("door", False, "[sftpd] takes no passwords: password_auth = no")


def _reads_only(account: Account) -> bool:
    return account.options.readonly or account.rootcap.is_readonly


def _key(file: str, account: Account) -> Step:
    given = {key.blob for key in place.keys_in(file)}
    known = any(key.blob in given for key in account.keys)
    text = "the account has it" if known else f"not one of its {len(account.keys)} keys"
    return Step("key", known, text, f"truckee account key add {account.name} {file}")


def _secret(attempt: Attempt, account: Account, accounts: AccountFile) -> Iterator[Step]:
    advice = f"truckee account passwd {account.name}"
    if account.password is None:
        text = f"the account has none, only {len(account.keys)} keys"
        yield Step("password", False, text, f"--key FILE, or {advice}")
        return
    given = attempt.password()
    if len(given) > MAXIMUM_PASSWORD:
        yield Step("password", False, "over 72 bytes, which is never right")
        return
    match account.password:
        case BcryptHash(text=hashed):
            right = bcrypt.checkpw(given, hashed)
        case PlaintextDigest(digest=digest):
            right = hmac.compare_digest(digest, plaintext_digest(accounts.key, given))
    yield Step("password", right, "right" if right else "wrong", advice)


def _of_url(attempt: Attempt, config: NodeConfig, settings: Settings) -> Step:
    login = PasswordLogin(
        attempt.name, attempt.password(), attempt.source or "127.0.0.1", attempt.protocol or "sftp"
    )
    reactor = settings.reactor()
    access = config.access
    ca = None
    if access.accounts_url_ca_file is not None:
        ca = files.read(access.accounts_url_ca_file, place.SMALL, private=False)
    checker = AccountURLChecker(reactor, access.accounts_url or "", ca)
    answers: list[Any] = []

    def done(answer: object) -> None:
        answers.append(answer)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(checker.ask(login)).addBoth(done))
    reactor.run()
    (answer,) = answers
    if isinstance(answer, Failure):
        answer.trap(TemporaryLoginError)
        return Step("url", False, answer.getErrorMessage(), "the log of the account server")
    text = "it says no: unknown, wrong, or not allowed"
    return Step("url", answer is not None, "it says yes" if answer is not None else text)
