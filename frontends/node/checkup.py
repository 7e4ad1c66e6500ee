"""Is this node in order? What lies in its directory, one finding for each thing looked at.

Knows what a node should look like; touches the disk to read, and changes nothing. Each check stands
by itself: one that fails, or that the disk refuses, keeps no other from being made. What the
machine around the node has to offer is in `surroundings`.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509

from truckee.core import files, grid
from truckee.core.config import NodeConfig
from truckee.core.errors import AccountError, ConfigError
from truckee.frontends.node import certificate as ftp_certificate
from truckee.frontends.node import creation, first_account

Level = Literal["ok", "warn", "FAIL"]

SCARCE = 1 << 30
"""Fewer free bytes than this are worth a warning."""

_EXPIRES_SOON = timedelta(days=14)
_MOST_NAMED = 5
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look brought."""

    level: Level
    check: str
    text: str
    advice: str = ""


Check = Callable[[], Iterator[Finding]]


def carry_out(check: str, look: Check) -> list[Finding]:
    """Return the findings of one check; an error of the disk or of our own rules is one."""
    try:
        return list(look())
    except (OSError, ConfigError, AccountError) as error:
        why = error.strerror or "" if isinstance(error, OSError) else str(error)
        return [Finding("FAIL", check, why)]


def of_directory(config: NodeConfig) -> list[Finding]:
    """Return the findings about what lies in the node directory."""
    checks: dict[str, Check] = {
        "configuration": lambda: configuration(config),
        "permissions": lambda: permissions(config),
        "accounts": lambda: accounts(config),
        "stores": lambda: stores(config),
        "spool": lambda: spool(config),
        "certificate": lambda: certificate(config),
        "host keys": lambda: keys(config),
        "log": lambda: log(config),
    }
    return [finding for name, look in checks.items() for finding in carry_out(name, look)]


def configuration(config: NodeConfig) -> Iterator[Finding]:
    """Tell what the configuration itself warns of."""
    for warning in config.warnings:
        yield Finding("warn", "configuration", warning, "docs/configuration.rst")
    if not config.ftp.enabled and not config.sftp.enabled:
        text = "no frontend is enabled"
        yield Finding("warn", "configuration", text, "enabled = yes in [ftpd] or [sftpd]")
    if not config.warnings:
        yield Finding("ok", "configuration", "it is understood, every key is known")


def permissions(config: NodeConfig) -> Iterator[Finding]:
    """Look for what others may read or change."""
    creation.check_modes(config)
    open_ones = sorted(
        str(path.relative_to(config.private))
        for path in config.private.rglob("*")
        if _is_open(path) and not path.is_symlink()
    )
    for name in open_ones[:_MOST_NAMED]:
        text = f"{name} in the private folder is open to others"
        yield Finding("FAIL", "permissions", text, "chmod go-rwx on it")
    if len(open_ones) > _MOST_NAMED:
        yield Finding("FAIL", "permissions", f"{len(open_ones) - _MOST_NAMED} more are open")
    if not open_ones:
        yield Finding("ok", "permissions", "keys and accounts are for their owner alone")


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.lstat().st_mode) & 0o077)


def accounts(config: NodeConfig) -> Iterator[Finding]:
    """Read the account file as the node does."""
    table = first_account.read_table(config.access.accounts_file, config)
    for bad in table.bad_lines[:_MOST_NAMED]:
        yield Finding("warn", "accounts", str(bad), "truckee account check")
    if len(table.bad_lines) > _MOST_NAMED:
        text = f"{len(table.bad_lines) - _MOST_NAMED} more bad lines"
        yield Finding("warn", "accounts", text, "truckee account check")
    if table.plaintext_lines:
        text = f"{len(table.plaintext_lines)} passwords stand in plaintext"
        yield Finding("warn", "accounts", text, "truckee account hash")
    if not table.accounts and config.access.accounts_url is None:
        yield Finding("FAIL", "accounts", "nobody can log in", "truckee account add NAME")
    elif not table.bad_lines and not table.plaintext_lines:
        yield Finding("ok", "accounts", f"{len(table.accounts)} usable accounts, no bad lines")


def stores(config: NodeConfig) -> Iterator[Finding]:
    """Look whether every store is there, can be written, and has room."""
    known = grid.read_known(config.directory)
    missing = 0
    for path in config.stores:
        shown = path.relative_to(config.directory) if _inside(path, config.directory) else path
        if not path.is_dir():
            missing += path in known
            text = f"{shown} is not there"
            if path in known:
                yield Finding("warn", "stores", text, "docs/running.rst, disks that die")
            else:
                yield Finding("ok", "stores", f"{shown} is made at the next start")
            continue
        if not os.access(path, os.W_OK | os.X_OK):
            yield Finding("FAIL", "stores", f"{shown} cannot be written", "its owner and mode")
        free = _free(path) - config.reserved_space
        if free < SCARCE:
            text = f"{shown} has {max(0, free) >> 20} MiB left to fill"
            yield Finding("warn", "stores", text, "more room, or more disks")
    there = len(config.stores) - missing
    if there < config.happy:
        text = f"{there} stores are there, a write needs {config.happy}"
        yield Finding("FAIL", "stores", text, "bring back the disks")
    elif not missing:
        yield Finding("ok", "stores", f"all {len(config.stores)} are there")


def spool(config: NodeConfig) -> Iterator[Finding]:
    """Look whether uploads have room."""
    place = config.access.spool_dir or config.directory
    while not place.exists() and place != place.parent:
        place = place.parent
    free, wanted = _free(place), config.access.spool_max
    if free < SCARCE:
        yield Finding("warn", "spool", f"{free >> 20} MiB are free for uploads", "spool_dir")
    elif wanted is not None and free < wanted:
        text = f"spool_max is {wanted >> 20} MiB, {free >> 20} MiB are free"
        yield Finding("warn", "spool", text, "a lower spool_max, or more room")
    else:
        yield Finding("ok", "spool", f"{free >> 20} MiB are free for uploads")


def certificate(config: NodeConfig) -> Iterator[Finding]:
    """Look at the dates of the certificate that FTPS shows."""
    if not config.ftp.enabled or config.ftp.tls == "off":
        return
    own, own_key = config.ftp.tls_certificate, config.ftp.tls_key
    path, key = ftp_certificate.places(config.private, "ftp", own, own_key)
    if not path.exists():
        if config.ftp.tls_certificate is None:
            yield Finding("ok", "certificate", "it is made at the next start")
        else:
            yield Finding("FAIL", "certificate", f"{path.name} is not there", "tls_certificate")
        return
    yield from _dates(ftp_certificate.load(path, key).chain[0], path.name, datetime.now(UTC))


def _dates(found: x509.Certificate, name: str, now: datetime) -> Iterator[Finding]:
    until = found.not_valid_after_utc
    day = until.date().isoformat()
    if now < found.not_valid_before_utc:
        yield Finding("FAIL", "certificate", f"{name} is not valid yet", "the clock")
    elif now >= until:
        yield Finding("FAIL", "certificate", f"{name} expired on {day}", "a new one")
    elif until - now < _EXPIRES_SOON:
        yield Finding("warn", "certificate", f"{name} expires on {day}", "a new one")
    else:
        yield Finding("ok", "certificate", f"{name} is valid until {day}")


def keys(config: NodeConfig) -> Iterator[Finding]:
    """Look whether SFTP has the keys by which clients know it."""
    if not config.sftp.enabled:
        return
    own = [config.private / f"ssh_host_{kind}_key" for kind in ("ed25519", "rsa")]
    given = config.sftp.host_privkey_file
    if given is not None and not given.exists():
        text = f"{given.name} is not there"
        yield Finding("FAIL", "host keys", text, "host_privkey_file")
    for path in own if given is None else [given]:
        if path.exists():
            files.read(path, _LIMIT)  # owner and mode
    missing = [path.name for path in own if not path.exists()]
    if given is None and 0 < len(missing) < len(own):
        text = f"{missing[0]} is missing: a new one is made, and clients will warn"
        yield Finding("warn", "host keys", text, "bring it back from a backup")
    elif given is None and missing:
        yield Finding("ok", "host keys", "they are made at the next start")
    else:
        yield Finding("ok", "host keys", "they are there, for their owner alone")


def log(config: NodeConfig) -> Iterator[Finding]:
    """Look at the size of the log."""
    folder = config.directory / "logs"
    if not folder.is_dir():
        yield Finding("ok", "log", "there is none yet")
        return
    size = sum(path.lstat().st_size for path in folder.iterdir())
    crashes = len(list(folder.glob("crash-*")))
    if size > 200 << 20:
        yield Finding("warn", "log", f"logs/ has {size >> 20} MiB", "remove what is old")
    elif crashes:
        text = f"logs/ has {crashes} reports of commands that broke"
        yield Finding("warn", "log", text, "read, report and remove them")
    else:
        yield Finding("ok", "log", f"logs/ has {size >> 20} MiB")


def _inside(path: Path, directory: Path) -> bool:
    return path.is_relative_to(directory)


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
