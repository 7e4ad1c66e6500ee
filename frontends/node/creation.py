"""A node directory from nothing: which stores, which coding, its configuration and secrets.

Knows the defaults for a number of servers or disks and the text of a new ``truckee.cfg``; touches
the node directory. Steps are ordered so that a creation that was killed is finished by the next
one: what exists is kept, and ``truckee.cfg``, which says that the node is complete, comes last.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from truckee.core import config, files
from truckee.core.config import NodeConfig
from truckee.core.errors import ConfigError, FormatError
from truckee.core.formats import base32

DISK_STORE = "truckee-store"
MOST_SERVERS = 255
_SECRET_LIMIT = 4096


class GridOptionError(ConfigError):
    """Grid options contradict each other, or the node they are given for."""


@dataclass(frozen=True, slots=True)
class GridOptions:
    """What the caller said about the grid; None where nothing."""

    servers: int | None = None
    disks: tuple[Path, ...] = ()
    needed: int | None = None
    happy: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class GridPlan:
    """Where shares will lie, relative to the node directory or absolute, and how many of them."""

    stores: tuple[Path, ...]
    needed: int
    happy: int
    total: int


def plan(options: GridOptions) -> GridPlan:
    """Return the grid for these options; GridOptionError when they cannot be met."""
    if options.servers is not None and options.disks:
        raise GridOptionError("--servers and --disk exclude each other")
    stores = _stores(options)
    count = len(stores)
    total = count if options.total is None else options.total
    if options.disks:
        losses = 0 if count == 1 else 1 if count < 5 else 2
        needed = max(1, total - losses) if options.needed is None else options.needed
        happy = needed if total - needed <= 1 else needed + 1
    else:
        needed = min(3, total) if options.needed is None else options.needed
        happy = (needed + total + 1) // 2
    happy = min(happy, count) if options.happy is None else options.happy
    if not 1 <= needed <= total <= MOST_SERVERS:
        raise GridOptionError(
            f"--needed and --total must be 1 <= needed <= total <= {MOST_SERVERS}"
        )
    if not 1 <= happy <= min(total, count):
        raise GridOptionError(
            f"--happy must be 1 to {min(total, count)}: there are {count} servers, {total} shares"
        )
    return GridPlan(stores, needed, happy, total)


def _stores(options: GridOptions) -> tuple[Path, ...]:
    if options.disks:
        found = tuple(_disk_store(disk) for disk in options.disks)
        if len({store.resolve() for store in found}) < len(found):
            raise GridOptionError("--disk names a folder twice")
        return found
    count = 1 if options.servers is None else options.servers
    if not 1 <= count <= MOST_SERVERS:
        raise GridOptionError(f"--servers takes 1 to {MOST_SERVERS}")
    return tuple(Path("servers") / f"{i:02d}" for i in range(count))


def _disk_store(disk: Path) -> Path:
    path = disk.expanduser().absolute() / DISK_STORE
    _check_listable(path)
    return path


def _check_listable(path: Path) -> None:
    text = str(path)
    if any(c in text for c in ",\n\r") or text != text.strip() or not text.isprintable():
        raise GridOptionError("a folder may not have commas or line ends in its name")


def check_same(found: NodeConfig, options: GridOptions) -> None:
    """Raise GridOptionError unless the options given are those the node was made with."""
    if options.servers is not None or options.disks:
        wanted = tuple(found.directory / store for store in _stores(options))
        if wanted != found.stores:
            raise GridOptionError(f"this node has {len(found.stores)} stores, and not those given")
    for name in ("needed", "happy", "total"):
        given = getattr(options, name)
        if given is not None and given != getattr(found, name):
            raise GridOptionError(f"this node was made with --{name} {getattr(found, name)}")


def check_new(directory: Path, options: GridOptions, private: Path | None) -> None:
    """Refuse to make up a grid for a node that has lost its ``truckee.cfg``: ConfigError.

    The account file is made after the configuration, so a creation that was cut short has none.
    """
    accounts = (directory / "private" if private is None else private) / "accounts"
    if accounts.exists() and options.servers is None and not options.disks:
        raise ConfigError(
            f"there are accounts, but no {config.NAME}: put it back, "
            "or give the grid options that it was made with"
        )


def config_text(grid: GridPlan, private: Path | None) -> str:
    """Return the text of a new ``truckee.cfg``."""
    lines = ["# Truckee's configuration. Every key: docs/configuration.rst", ""]
    if private is not None:
        lines += ["[node]", "# keys and root capabilities", f"private_dir = {private}", ""]
    lines += ["[grid]", "mode = embedded", ""]
    lines += ["[embedded]", "stores = " + ", ".join(map(str, grid.stores)), ""]
    lines += ["[client]", f"shares.needed = {grid.needed}", f"shares.happy = {grid.happy}"]
    lines += [f"shares.total = {grid.total}", ""]
    lines += ["[ftpd]", "enabled = yes", f"# port = {config.DEFAULT_FTP_ENDPOINT}", ""]
    lines += ["[sftpd]", "enabled = yes", f"# port = {config.DEFAULT_SFTP_ENDPOINT}", ""]
    return "\n".join(lines)


def config_path(directory: Path) -> Path | None:
    """Return the configuration file of a node directory, or None when there is none."""
    for name in (config.NAME, config.TAHOE_NAME):
        if (directory / name).is_file():
            return directory / name
    return None


def load(directory: Path) -> NodeConfig:
    """Return the configuration of a node directory; ConfigError when it is wrong or not there."""
    path = config_path(directory)
    if path is None:
        raise ConfigError("there is no node here: truckee.cfg is missing")
    try:
        text = files.read(path, 1 << 20, private=False).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name} is not UTF-8") from None
    return config.parse(text, directory.absolute(), path.name)


def create(
    directory: Path,
    grid: GridPlan,
    private: Path | None,
    make_stores: Callable[[Path, Sequence[Path]], object],
    random: Callable[[int], bytes] = os.urandom,
) -> NodeConfig:
    """Make the node directory, or finish making it, and return its configuration.

    `make_stores` makes the share stores, given the node directory and their folders.
    """
    if private is not None:
        private = private.expanduser().absolute()
        _check_listable(private)
    directory = directory.absolute()
    _check_empty(directory)
    if directory.is_dir() and directory.stat().st_uid == os.geteuid():
        directory.chmod(0o700)  # it is empty, or our own unfinished work
    files.make_private_directory(directory)
    text = config_text(grid, private)
    made = config.parse(text, directory)
    files.make_private_directory(made.private)
    for path in (made.private, directory):
        files.remove_temporaries(path)
    for name in ("secret", "convergence"):
        secret = f"{base32.b2a(random(32))}\n".encode("ascii")
        files.create_or_read(made.private / name, secret, _SECRET_LIMIT)
    make_stores(directory, made.stores)
    files.create_or_read(directory / config.NAME, text.encode("utf-8"), 1 << 20)
    return load(directory)


def check_modes(found: NodeConfig) -> None:
    """Refuse a node whose keys others can read, or whose folder they can change: ConfigError."""
    files.check_private_directory(found.private)
    status = found.directory.stat()
    if status.st_mode & 0o022:
        mode = status.st_mode & 0o7777
        raise ConfigError(f"{found.directory.name} is open to others (mode {mode:04o})")
    for name in ("secret", "convergence", "first-password"):
        path = found.private / name
        if path.exists():
            files.read(path, _SECRET_LIMIT)


_OURS = frozenset({"private", "servers", "logs", "tmp", "running.process", "known-stores"})


def _check_empty(directory: Path) -> None:
    """Refuse a folder that holds other things: it was hardly meant."""
    if directory.exists():
        others = [p.name for p in directory.iterdir() if not p.name.startswith(".")]
        if set(others) - _OURS:
            raise ConfigError(
                f"{directory.name} holds other files; a new node needs an empty folder"
            )


def read_secret(path: Path, *, may_be_empty: bool = False) -> bytes:
    """Return a secret kept in base32; ConfigError when it is missing, open to others or damaged."""
    try:
        text = files.read(path, _SECRET_LIMIT).decode("ascii").strip()
        secret = base32.a2b(text)
    except FileNotFoundError:
        raise ConfigError(f"private file {path.name} is missing") from None
    except (UnicodeDecodeError, FormatError):
        raise ConfigError(f"private file {path.name} is damaged") from None
    if not secret and not may_be_empty:
        raise ConfigError(f"private file {path.name} is empty")
    return secret
