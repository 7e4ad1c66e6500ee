"""What a client is told about a file or directory, and how ``ls -l`` would write it.

Knows edge metadata as it stands in directories (values chosen by whoever wrote them, so nothing in
it is trusted to have a type) and the mode bits of Unix. Pure: touches only hashes.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from truckee.core.crypto.hashes import sha256d
from truckee.core.formats import base32

Kind = Literal["file", "dir", "unknown"]

LATEST = 253402300799
"""The last second of the year 9999; later times are shown as this one."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HALF_YEAR = 182 * 86400
_WRITE_BITS = 0o222
_OWNER_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Attributes:
    """One file or directory as a session sees it. Files never carry an ``x`` bit."""

    type: Kind
    size: int
    mtime: int
    mode: int
    """Permission bits alone, without the bits of the file type."""
    writable: bool
    """A file: may be opened for writing. A directory: children may be added and removed."""
    unique: str
    """Equal for two names of one object, within one process and account; no part of a cap."""

    @property
    def is_directory(self) -> bool:
        """Return whether this is a directory."""
        return self.type == "dir"

    def with_size(self, size: int) -> "Attributes":
        """Return the same with another size."""
        return replace(self, size=size)


def mode_bits(kind: Kind, writable: bool) -> int:
    """Return the permission bits. World bits count: sshfs as another user looks at them."""
    if kind == "unknown":
        return 0
    bits = 0o777 if kind == "dir" else 0o666
    return bits if writable else bits & ~_WRITE_BITS


def unique_id(key: bytes, account: str, identity: bytes) -> str:
    """Return a name for one object that tells nothing about it outside this process and account.

    `identity` is a storage index, or a capability where there is none; `key` is the process's own.
    """
    name = account.encode("utf-8", "surrogatepass")
    mixed = b"%d:%b,%b" % (len(name), name, identity)
    return hashlib.blake2b(mixed, key=key, digest_size=10).hexdigest()


# times


def clamp_time(value: object) -> int | None:
    """Return a time found in metadata as whole seconds in 0…LATEST, or None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(min(max(value, 0), LATEST))


def link_token(readcap: bytes) -> str:
    """Return what `truckee.for` holds for a child of this read cap (text bytes)."""
    return base32.b2a(sha256d(readcap)[:10])


def edge_mtime(metadata: Mapping[str, Any], readcap: bytes | None, *, snapshot: bool) -> int:
    """Return the modification time of a linked child.

    In order: the time a client set, while it is still this child that is linked; the `mtime` of a
    backup program, if the parent is immutable (`snapshot`); the time of the link; 0.
    """
    ours = metadata.get("truckee")
    if isinstance(ours, Mapping) and readcap is not None and "mtime" in ours:
        time = clamp_time(ours["mtime"])
        if time is not None and ours.get("for") == link_token(readcap):
            return time
    if snapshot and (time := clamp_time(metadata.get("mtime"))) is not None:
        return time
    system = metadata.get("tahoe")
    if isinstance(system, Mapping) and (time := clamp_time(system.get("linkmotime"))) is not None:
        return time
    return 0


# changes of edge metadata


def with_mtime(metadata: Mapping[str, Any], readcap: bytes, mtime: int | None) -> dict[str, Any]:
    """Return `metadata` saying that a client set this time for this child; None forgets it."""
    changed = {key: value for key, value in metadata.items() if key != "truckee"}
    old = metadata.get("truckee")
    ours: dict[str, Any] = {}
    if isinstance(old, Mapping):
        ours = {key: value for key, value in old.items() if key not in ("mtime", "for")}
    if mtime is not None:
        ours |= {"mtime": clamp_time(mtime), "for": link_token(readcap)}
    if ours:
        changed["truckee"] = ours
    return changed


def is_write_barred(metadata: Mapping[str, Any]) -> bool:
    """Return whether the edge carries Tahoe's `no-write` mark."""
    return metadata.get("no-write") is True


def with_mode(metadata: Mapping[str, Any], mode: int) -> dict[str, Any]:
    """Return `metadata` with `no-write` as the owner's write bit of `mode` demands."""
    changed = dict(metadata)
    if mode & 0o200:
        changed.pop("no-write", None)
    else:
        changed["no-write"] = True
    return changed


# ls -l


def mode_text(attributes: Attributes) -> str:
    """Return the ten characters that ``ls -l`` begins with."""
    bits = "".join(
        letter if attributes.mode & (0o400 >> place) else "-"
        for place, letter in enumerate("rwxrwxrwx")
    )
    return ("d" if attributes.is_directory else "-") + bits


def ls_time(mtime: int, now: float) -> str:
    """Return twelve characters: ``Nov  3 14:05`` in the half year around `now`, else the year."""
    when = datetime.fromtimestamp(min(max(mtime, 0), LATEST), UTC)
    day = f"{_MONTHS[when.month - 1]} {when.day:2d}"
    if -86400 <= now - mtime < _HALF_YEAR:
        return f"{day} {when.hour:02d}:{when.minute:02d}"
    return f"{day}  {when.year:04d}"


def owner_text(account: str) -> str:
    """Return the account name as it fits the owner's column: no blanks, at most 8 characters."""
    shown = "".join(c if c.isalnum() or c in "._-@+" else "_" for c in account)
    return shown[:_OWNER_SHOWN] or "-"


def ls_line(name: str, attributes: Attributes, account: str, now: float) -> str:
    """Return the ``ls -l`` line of one child, in UTC and with English months, without line end."""
    owner = owner_text(account)
    return (
        f"{mode_text(attributes)}   1 {owner:<8} {owner:<8} {attributes.size:>12} "
        f"{ls_time(attributes.mtime, now)} {name}"
    )
