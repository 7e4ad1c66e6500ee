"""Passwords for accounts: made up, asked for, and judged.

Knows the word list beside it and what makes a password too weak; touches the terminal.
"""

import re
import secrets
import sys
from collections.abc import Callable
from importlib import resources

import click

from truckee.auth.passwords import MAXIMUM_PASSWORD
from truckee.frontends.cli.output import CommandError, Exit

SHORTEST = 12
WORDS = 4
_COMMON = frozenset(
    {
        "passwordpassword", "password1234", "123456789012", "1234567890123", "qwertyuiop12",
        "qwertyuiopas", "administrator", "adminadminadmin", "letmeinletmein", "iloveyouiloveyou",
        "correcthorsebatterystaple", "changemechangeme", "passw0rdpassw0rd", "abcdefghijkl",
        "000000000000", "111111111111", "welcomewelcome", "trustno1trustno1",
    }
)  # fmt: skip


def words() -> list[str]:
    """Return the word list."""
    text = resources.files("truckee.frontends.cli").joinpath("words.txt").read_text("ascii")
    return text.split()


def generate(below: Callable[[int], int] = secrets.randbelow) -> str:
    """Return four words and two digits: at least 46 bits of chance."""
    known = words()
    chosen = [known[below(len(known))] for _ in range(WORDS)]
    return "-".join([*chosen, f"{below(90) + 10}"])


def check(password: str, name: str) -> None:
    """Raise CommandError when a password is too weak, or too long to be kept."""
    why = _weakness(password, name)
    if why:
        raise CommandError("this password cannot be used", why, "--generate", Exit.FAILED)


def _weakness(password: str, name: str) -> str:
    if len(password.encode("utf-8", "surrogateescape")) > MAXIMUM_PASSWORD:
        return f"it is longer than {MAXIMUM_PASSWORD} bytes"
    if "\x00" in password or "\n" in password or "\r" in password:
        return "it holds a line end or a zero byte, which no client can send"
    folded = password.casefold()
    if folded.strip() == name.casefold():
        return "it is the user name"
    passphrase = len([word for word in re.split(r"[\s\-_.]+", password) if len(word) > 1]) >= WORDS
    if len(password) < SHORTEST and not passphrase:
        return f"it has fewer than {SHORTEST} characters and is no phrase of {WORDS} words"
    if len(set(folded)) < 4 or re.sub(r"\W", "", folded) in _COMMON:
        return "it is one that everybody tries first"
    return ""


def ask(name: str, *, stdin: bool) -> str:
    """Return a password typed twice without echo, or the first line of standard input."""
    if stdin:
        password = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape").rstrip("\r\n")
    elif sys.stdin.isatty():
        password = click.prompt(
            f"Password for {name}", hide_input=True, confirmation_prompt=True, err=True
        )
    else:
        raise CommandError(
            "no password was given",
            "standard input is not a terminal",
            "--generate, or --password-stdin",
            Exit.USAGE,
        )
    check(password, name)
    return password
