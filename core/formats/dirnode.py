"""The packed table of a directory: split, look at, change, and join again.

Knows the entries' layout, the encryption of write caps, and the bounds of what is believed; touches
nothing. An entry is taken apart only when somebody asks for it. A change packs the entries it
touches and copies the stored bytes of all others, also of entries that break a rule: those are
hidden from listings, and leave only when their name is deleted or replaced.
Format: docs/formats/directories.rst.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from truckee.core.crypto import aes, hashes
from truckee.core.errors import (
    BadNameError,
    BadURIError,
    DirectoryFormatError,
    FileTooLargeError,
    MustBeDeepImmutableError,
)
from truckee.core.formats import links
from truckee.core.formats.caps import ChkVerifyCap
from truckee.core.formats.links import Target, UnknownLink

Metadata = dict[str, Any]

MAX_PACKED = 64 * 2**20  # bytes of a whole table
MAX_ENTRIES = 1_000_000
MAX_NAME = 4096  # bytes
MAX_METADATA = 65536  # bytes
MAX_DEPTH = 32  # of JSON

_LENGTH_DIGITS = 8  # enough for MAX_PACKED
_SALT = 16
_MAC = 32
_IPAD = bytes(0x36 for _ in range(16))
_OPAD = bytes(0x5C for _ in range(16))
_DECODER = json.JSONDecoder()
_NESTING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


# names


def normalize(name: str) -> str:
    """Return `name` in the form in which names are stored and compared."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def checked_name(name: str) -> str:
    """Return `name` normalised; raise BadNameError if it cannot be stored."""
    if len(name) > MAX_NAME:
        raise BadNameError("the name is too long")
    try:
        name = normalize(name)
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadNameError("the name has an unpaired surrogate") from None
    if length > MAX_NAME:
        raise BadNameError("the name is too long")
    return name


# netstrings, in place


def _frame(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return where the netstring at `position` has its first byte and its comma."""
    colon = data.find(b":", position, position + _LENGTH_DIGITS + 1)
    digits = data[position:colon] if colon > position else b""
    if not digits.isdigit() or (digits[0] == 0x30 and len(digits) > 1):
        raise DirectoryFormatError("a length is not a canonical number in range")
    stop = colon + 1 + int(digits)
    if stop >= end or data[stop] != 0x2C:
        raise DirectoryFormatError("a netstring is cut short or lacks its comma")
    return colon + 1, stop


# write capabilities of children


def encrypt_write_cap(write: bytes, writekey: bytes) -> bytes:
    """Return the field that holds a child's write cap (b"" when it has none)."""
    salt = hashes.child_rwcap_salt(write)
    key = hashes.child_rwcap_key(salt, writekey)
    encrypted = salt + aes.ctr(key, write)
    return encrypted + _mac(key, encrypted)


def decrypt_write_cap(field: bytes, writekey: bytes) -> bytes:
    """Return the write cap in a field, b"" for none.

    The MAC is not looked at: the signature of the directory's file covers the field, and old
    writers made other MACs.
    """
    encrypted = field[_SALT:-_MAC]
    if not encrypted:
        return b""
    return aes.ctr(hashes.child_rwcap_key(field[:_SALT], writekey), encrypted).rstrip(b" ")


def _mac(key: bytes, data: bytes) -> bytes:
    """Like HMAC, but with the key as long as it is instead of padded to a block."""
    inner = hashlib.sha256(_xor(key, _IPAD) + data).digest()
    return hashlib.sha256(_xor(key, _OPAD) + inner).digest()


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


# metadata


def parse_metadata(raw: bytes) -> Metadata:
    """Return the object that `raw` spells; raise DirectoryFormatError."""
    if raw == b"{}":
        return {}
    if len(raw) > MAX_METADATA or _too_deep(raw):
        raise DirectoryFormatError("metadata is too long or too deep")
    try:
        value = _parse_json(raw.decode("utf-8"))
    except ValueError:  # bad UTF-8, bad JSON, a number of too many digits
        raise DirectoryFormatError("metadata is not JSON") from None
    if not isinstance(value, dict):
        raise DirectoryFormatError("metadata is not an object")
    return value


def pack_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return `metadata` as it is stored; raise DirectoryFormatError when it may not be."""
    try:
        raw = json.dumps(metadata).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        raise DirectoryFormatError("metadata cannot be written as JSON") from None
    if len(raw) > MAX_METADATA or _too_deep(raw):
        raise DirectoryFormatError("metadata is too long or too deep")
    return raw


def update_metadata(old: Metadata | None, new: Mapping[str, Any] | None, now: float) -> Metadata:
    """Return the metadata of a link that is set at `now` (seconds since 1970).

    The key `tahoe` belongs to this function: what a caller has in it is dropped. None stands for a
    new link, and for a caller that brings no metadata.
    """
    if new is None:
        result = dict(old or {})
    else:
        result = {key: value for key, value in new.items() if key != "tahoe"}
    kept = (old or {}).get("tahoe")
    system = dict(kept) if isinstance(kept, dict) else {}
    if "linkcrtime" not in system:
        system["linkcrtime"] = old["ctime"] if old and "ctime" in old else now
    system["linkmotime"] = now
    result["tahoe"] = system
    return result


def _parse_json(text: str) -> Any:  # noqa: ANN401 - what JSON may be
    """Like `json.loads`, in half the time for what has no space around it."""
    try:
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


def _too_deep(raw: bytes) -> bool:
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _NESTING.finditer(raw):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0] in (b"}", b"]"):
            depth -= 1
    return False


# entries


class Entry:
    """One stored entry: its bytes, and its name where it has a lawful one."""

    __slots__ = ("_rest", "name", "raw")

    def __init__(self, raw: bytes, rest: int, name: str | None) -> None:
        """Take the whole netstring, the offset of what follows the name, and the normalised name.

        The offset is 0 where not even the name has its frame.
        """
        self.raw = raw
        self._rest = rest
        self.name = name

    def fields(self) -> tuple[bytes, bytes, bytes]:
        """Return read slot, encrypted write slot and metadata; raise DirectoryFormatError.

        What follows the four fields is ignored, as the peer does.
        """
        raw, end, position = self.raw, len(self.raw) - 1, self._rest
        if not position:
            raise DirectoryFormatError("an entry has too few fields")
        found = []
        for _ in range(3):
            start, stop = _frame(raw, position, end)
            found.append(raw[start:stop])
            position = stop + 1
        return found[0], found[1], found[2]


def split(packed: bytes) -> list[Entry]:
    """Return the entries of a table as they are stored.

    Raises DirectoryFormatError when the outer framing is broken or a bound is exceeded.
    """
    end = len(packed)
    if end > MAX_PACKED:
        raise DirectoryFormatError("the directory is too large")
    entries: list[Entry] = []
    position = 0
    while position < end:
        start, stop = _frame(packed, position, end)
        if len(entries) >= MAX_ENTRIES:
            raise DirectoryFormatError("the directory has too many entries")
        raw = packed[position : stop + 1]
        try:
            first, last = _frame(packed, start, stop)
        except DirectoryFormatError:
            entries.append(Entry(raw, 0, None))
        else:
            entries.append(Entry(raw, last + 1 - position, _name(packed[first:last])))
        position = stop + 1
    return entries


def _name(raw: bytes) -> str | None:
    if len(raw) > MAX_NAME:
        return None
    try:
        return normalize(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Child:
    """What a listing shows under one name."""

    target: Target
    metadata_bytes: bytes

    @property
    def metadata(self) -> Metadata:
        """A fresh copy of the link's metadata."""
        return parse_metadata(self.metadata_bytes)


class Table:
    """A packed directory seen under one capability.

    `writekey` is that of the directory's file, or None for those who can only read it. Immutable
    directories have none.
    """

    def __init__(
        self, packed: bytes, *, writekey: bytes | None = None, deep_immutable: bool = False
    ) -> None:
        """Split `packed`; raise DirectoryFormatError."""
        self._writekey = writekey
        self._deep = deep_immutable
        self._nameless: list[Entry] = []
        self._entries: dict[str, list[Entry]] = {}
        self.count = 0
        for entry in split(packed):
            self.count += 1
            if entry.name is None:
                self._nameless.append(entry)
            else:
                self._entries.setdefault(entry.name, []).append(entry)
        self.size = len(packed)
        self._seen: dict[str, Child | None] = {}
        if deep_immutable:
            self._refuse_write_caps()

    def child(self, name: str) -> Child | None:
        """Return the last lawful entry of a normalised name, or None."""
        if name in self._seen:
            return self._seen[name]
        found = None
        for entry in reversed(self._entries.get(name, ())):
            found = self._look(entry)
            if found is not None:
                break
        self._seen[name] = found
        return found

    def children(self) -> dict[str, Child]:
        """Return all lawful entries in order of name."""
        return dict(self.iterate())

    def iterate(self) -> Iterator[tuple[str, Child]]:
        """Yield all lawful entries in order of name."""
        for name in sorted(self._entries):
            child = self.child(name)
            if child is not None:
                yield name, child

    @property
    def hidden(self) -> int:
        """How many stored entries a listing does not show."""
        return self.count - sum(1 for _ in self.iterate())

    def _look(self, entry: Entry) -> Child | None:
        try:
            read, write_field, metadata = entry.fields()
            parse_metadata(metadata)
        except DirectoryFormatError:
            return None
        write = b""
        if self._writekey is not None and len(write_field) > _SALT + _MAC:
            write = decrypt_write_cap(write_field, self._writekey)
        target = links.resolve(write, read.rstrip(b" "), deep_immutable=self._deep)
        if isinstance(target, UnknownLink):
            if target.error is not None:
                return None
        elif isinstance(target, ChkVerifyCap):
            return None
        if self._deep and not links.allowed_in_immutable(target):
            return None
        return Child(target, metadata)

    def _refuse_write_caps(self) -> None:
        for entries in self._entries.values():
            for entry in entries:
                try:
                    write_field = entry.fields()[1]
                except DirectoryFormatError:
                    continue
                if write_field:
                    raise DirectoryFormatError("an immutable directory holds a write capability")


class Packer:
    """Makes the bytes of entries for one directory; `writekey` None means an immutable one."""

    def __init__(self, writekey: bytes | None) -> None:
        """Take the write key of the directory's file."""
        self._writekey = writekey
        self._no_write_cap = b"" if writekey is None else encrypt_write_cap(b"", writekey)

    def pack(self, name: str, target: Target, metadata: Mapping[str, Any]) -> Entry:
        """Return an entry for a name that was checked.

        Raises the target's recorded error, MustBeDeepImmutableError, BadURIError for a verify cap,
        DirectoryFormatError for metadata that cannot be stored.
        """
        deep = self._writekey is None
        check_linkable(target, deep_immutable=deep)
        write = links.write_text(target) or b""
        read = links.strip_prefix(links.read_text(target) or b"", deep_immutable=deep)
        field = self._no_write_cap
        if write and self._writekey is not None:
            field = encrypt_write_cap(write, self._writekey)
        fields = (name.encode("utf-8"), read, field, pack_metadata(metadata))
        framed = [b"%d:%b," % (len(value), value) for value in fields]
        body = b"".join(framed)
        head = b"%d:" % len(body)
        return Entry(b"%b%b," % (head, body), len(head) + len(framed[0]), name)


def check_linkable(target: Target, *, deep_immutable: bool) -> None:
    """Raise the error that forbids a link to `target`, if there is one."""
    if isinstance(target, UnknownLink) and target.error is not None:
        raise target.error
    if isinstance(target, ChkVerifyCap):
        raise BadURIError("a verify capability cannot be linked")
    if deep_immutable and not links.allowed_in_immutable(target):
        raise MustBeDeepImmutableError("an immutable directory takes no mutable child")


def pack(
    children: Mapping[str, tuple[Target, Mapping[str, Any]]], *, writekey: bytes | None
) -> bytes:
    """Return the table of a new directory; `writekey` None makes an immutable one.

    Metadata is stored as given. Raises as `Packer.pack`, BadNameError and FileTooLargeError.
    """
    packer = Packer(writekey)
    named = {checked_name(name): value for name, value in children.items()}
    packed = b"".join(packer.pack(name, *named[name]).raw for name in sorted(named))
    if len(packed) > MAX_PACKED or len(named) > MAX_ENTRIES:
        raise FileTooLargeError("the directory would be too large")
    return packed


class Editor(Table):
    """A mutable directory being changed by somebody who holds its write key."""

    def __init__(self, packed: bytes, writekey: bytes) -> None:
        """Split `packed`; raise DirectoryFormatError."""
        super().__init__(packed, writekey=writekey)
        self._packer = Packer(writekey)
        self.changed = False

    def entry(self, name: str, target: Target, metadata: Mapping[str, Any]) -> Entry:
        """Return new bytes for one name, not yet in the table; raises as `Packer.pack`."""
        return self._packer.pack(name, target, metadata)

    def stored(self, name: str) -> bool:
        """Tell whether anything, hidden or not, is stored under a normalised name."""
        return name in self._entries

    def put(self, new: list[Entry], without: str | None = None) -> None:
        """Put all entries in place of what has their names, and take away the name `without`.

        Raises FileTooLargeError, with nothing changed, when the table grows beyond its bounds.
        """
        names = {entry.name for entry in new if entry.name is not None}
        gone = names if without is None else names | {without}
        old = [entry for name in gone for entry in self._entries.get(name, ())]
        size = self.size + sum(len(e.raw) for e in new) - sum(len(e.raw) for e in old)
        count = self.count + len(new) - len(old)
        if (size > MAX_PACKED and size > self.size) or (count > MAX_ENTRIES and count > self.count):
            raise FileTooLargeError("the directory would be too large")
        for name in gone:
            self._entries.pop(name, None)
            self._seen.pop(name, None)
        for entry in new:
            if entry.name is not None:
                self._entries[entry.name] = [entry]
        self.size, self.count = size, count
        self.changed = self.changed or bool(new or old)

    def remove(self, name: str) -> None:
        """Take away all that is stored under a normalised name."""
        self.put([], without=name)

    def pack(self) -> bytes:
        """Return the table: entries in order of name, those without a name last."""
        entries = self._entries
        ordered = [entry.raw for name in sorted(entries) for entry in entries[name]]
        ordered.extend(entry.raw for entry in self._nameless)
        return b"".join(ordered)
