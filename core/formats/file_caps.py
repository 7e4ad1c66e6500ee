"""Capabilities of files: their fields, their text, and the weaker ones that follow from each.

Knows every kind of file of Tahoe-LAFS 1.20 and the key derivations between them; touches nothing.
No `repr` shows key material. Directories and unknown texts: `truckee.core.formats.caps`, which
offers these names, too. Format: docs/formats/caps.rst.
"""

from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

from truckee.core.crypto import hashes
from truckee.core.errors import BadURIError
from truckee.core.formats import base32
from truckee.core.formats.numbers import parse_decimal

MAX_SIZE = 2**63 - 1
MAX_SHARES = 256


class Common:
    """What the kinds share. `text` is the canonical text; a subclass says where it differs."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """The canonical text."""
        raise AttributeError("text")

    @property
    def text_bytes(self) -> bytes:
        """The canonical text as bytes."""
        return self.text.encode("ascii")

    @property
    def is_readonly(self) -> bool:
        """Whether no change can be made with it."""
        return True

    @property
    def is_mutable(self) -> bool:
        """Whether it gives access to contents that may change; false for verify caps."""
        return False

    @property
    def is_directory(self) -> bool:
        """Whether the contents are a directory's."""
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _File(Common):
    """A capability of a file: a kind, a colon, a body. A directory's differs in the kind only."""

    __slots__ = ()
    kind: ClassVar[str]

    @property
    def body(self) -> str:
        """What follows the kind and its colon."""
        raise AttributeError("body")

    @property
    def text(self) -> str:
        """The canonical text."""
        return f"URI:{self.kind}:{self.body}"


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise BadURIError(what)


def _b32(raw: bytes) -> bytes:
    return base32.a2b(raw.decode("ascii", "replace"))


# immutable files


@dataclass(frozen=True, slots=True, repr=False)
class LitCap(_File):
    """A file so small that the capability holds its contents."""

    kind: ClassVar[str] = "LIT"
    data: bytes

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        """Return the capability with this body; raise BadURIError or FormatError."""
        return cls(_b32(body))

    @property
    def body(self) -> str:
        """What follows the kind and its colon."""
        return base32.b2a(self.data)

    @property
    def size(self) -> int:
        """Bytes of contents."""
        return len(self.data)

    @property
    def storage_index(self) -> None:
        """None: there are no shares."""

    def write_cap(self) -> None:
        """Return None: it cannot be changed."""

    def read_cap(self) -> Self:
        """Return itself."""
        return self

    def verify_cap(self) -> None:
        """Return None: there are no shares."""


def _check_chk(key: bytes, ueb_hash: bytes, needed: int, total: int, size: int) -> None:
    _need(len(key) == 16 and len(ueb_hash) == 32, "a key or hash has the wrong length")
    _need(1 <= needed <= total <= MAX_SHARES, "k and N are out of range")
    _need(1 <= size <= MAX_SIZE, "the size is out of range")


def _chk_body(key: bytes, ueb_hash: bytes, needed: int, total: int, size: int) -> str:
    return f"{base32.b2a(key)}:{base32.b2a(ueb_hash)}:{needed}:{total}:{size}"


def _parse_chk(body: bytes) -> tuple[bytes, bytes, int, int, int]:
    fields = body.split(b":")
    _need(len(fields) == 5, "the capability has the wrong number of fields")
    needed, total = (parse_decimal(raw, MAX_SHARES) for raw in fields[2:4])
    return _b32(fields[0]), _b32(fields[1]), needed, total, parse_decimal(fields[4], MAX_SIZE)


@dataclass(frozen=True, slots=True, repr=False)
class ChkReadCap(_File):
    """Read authority over one immutable file."""

    kind: ClassVar[str] = "CHK"
    readkey: bytes
    ueb_hash: bytes
    needed_shares: int
    total_shares: int
    size: int

    def __post_init__(self) -> None:
        _check_chk(self.readkey, self.ueb_hash, self.needed_shares, self.total_shares, self.size)

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        """Return the capability with this body; raise BadURIError or FormatError."""
        return cls(*_parse_chk(body))

    @property
    def body(self) -> str:
        """What follows the kind and its colon."""
        return _chk_body(
            self.readkey, self.ueb_hash, self.needed_shares, self.total_shares, self.size
        )

    @property
    def storage_index(self) -> bytes:
        """The 16 bytes under which servers keep the shares."""
        return hashes.immutable_storage_index(self.readkey)

    def write_cap(self) -> None:
        """Return None: it cannot be changed."""

    def read_cap(self) -> Self:
        """Return itself."""
        return self

    def verify_cap(self) -> "ChkVerifyCap":
        """Return the capability to check shares without reading."""
        return ChkVerifyCap(
            self.storage_index, self.ueb_hash, self.needed_shares, self.total_shares, self.size
        )


@dataclass(frozen=True, slots=True, repr=False)
class ChkVerifyCap(_File):
    """The right to check and repair one immutable file, not to read it."""

    kind: ClassVar[str] = "CHK-Verifier"
    storage_index: bytes
    ueb_hash: bytes
    needed_shares: int
    total_shares: int
    size: int

    def __post_init__(self) -> None:
        _check_chk(
            self.storage_index, self.ueb_hash, self.needed_shares, self.total_shares, self.size
        )

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        """Return the capability with this body; raise BadURIError or FormatError."""
        return cls(*_parse_chk(body))

    @property
    def body(self) -> str:
        """What follows the kind and its colon."""
        return _chk_body(
            self.storage_index, self.ueb_hash, self.needed_shares, self.total_shares, self.size
        )

    def write_cap(self) -> None:
        """Return None: it cannot change anything."""

    def read_cap(self) -> Self:
        """Return itself."""
        return self

    def verify_cap(self) -> Self:
        """Return itself."""
        return self


# mutable files: two families with the same fields, told apart by the name alone


class _Mutable(_File):
    """A 16-byte key and the public key's fingerprint."""

    __slots__ = ()
    hints: ClassVar[bool]  # old clients appended ":k:segsize" to MDMF caps; read, never written

    @classmethod
    def parse_body(cls, body: bytes) -> Self:
        """Return the capability with this body; raise BadURIError or FormatError."""
        fields = body.split(b":", 2)
        most = 3 if cls.hints else 2
        _need(2 <= len(fields) <= most, "the capability has the wrong number of fields")
        return cls(_b32(fields[0]), _b32(fields[1]))  # type: ignore[call-arg]  # the dataclasses below


def _check_mutable(key: bytes, fingerprint: bytes) -> None:
    _need(len(key) == 16 and len(fingerprint) == 32, "a key or hash has the wrong length")


@dataclass(frozen=True, slots=True, repr=False)
class _WriteCap(_Mutable):
    writekey: bytes
    fingerprint: bytes

    def __post_init__(self) -> None:
        _check_mutable(self.writekey, self.fingerprint)

    @property
    def body(self) -> str:
        return f"{base32.b2a(self.writekey)}:{base32.b2a(self.fingerprint)}"

    @property
    def readkey(self) -> bytes:
        """The 16-byte key that reads the contents."""
        return hashes.mutable_readkey(self.writekey)

    @property
    def storage_index(self) -> bytes:
        """The 16 bytes under which servers keep the shares."""
        return hashes.mutable_storage_index(self.readkey)

    @property
    def is_readonly(self) -> bool:
        return False

    @property
    def is_mutable(self) -> bool:
        return True

    def write_cap(self) -> Self:
        """Return itself."""
        return self


@dataclass(frozen=True, slots=True, repr=False)
class _ReadCap(_Mutable):
    readkey: bytes
    fingerprint: bytes

    def __post_init__(self) -> None:
        _check_mutable(self.readkey, self.fingerprint)

    @property
    def body(self) -> str:
        return f"{base32.b2a(self.readkey)}:{base32.b2a(self.fingerprint)}"

    @property
    def storage_index(self) -> bytes:
        """The 16 bytes under which servers keep the shares."""
        return hashes.mutable_storage_index(self.readkey)

    @property
    def is_mutable(self) -> bool:
        return True

    def write_cap(self) -> None:
        """Return None: it cannot change anything."""

    def read_cap(self) -> Self:
        """Return itself."""
        return self


@dataclass(frozen=True, slots=True, repr=False)
class _VerifyCap(_Mutable):
    storage_index: bytes
    fingerprint: bytes

    def __post_init__(self) -> None:
        _check_mutable(self.storage_index, self.fingerprint)

    @property
    def body(self) -> str:
        return f"{base32.b2a(self.storage_index)}:{base32.b2a(self.fingerprint)}"

    def write_cap(self) -> None:
        """Return None: it cannot change anything."""

    def read_cap(self) -> Self:
        """Return itself."""
        return self

    def verify_cap(self) -> Self:
        """Return itself."""
        return self


class SdmfWriteCap(_WriteCap):
    """The right to read and write one SDMF file."""

    __slots__ = ()
    kind = "SSK"
    hints = False

    def read_cap(self) -> "SdmfReadCap":
        """Return the capability to read."""
        return SdmfReadCap(self.readkey, self.fingerprint)

    def verify_cap(self) -> "SdmfVerifyCap":
        """Return the capability to check shares without reading."""
        return SdmfVerifyCap(self.storage_index, self.fingerprint)


class SdmfReadCap(_ReadCap):
    """The right to read one SDMF file."""

    __slots__ = ()
    kind = "SSK-RO"
    hints = False

    def verify_cap(self) -> "SdmfVerifyCap":
        """Return the capability to check shares without reading."""
        return SdmfVerifyCap(self.storage_index, self.fingerprint)


class SdmfVerifyCap(_VerifyCap):
    """The right to check the shares of one SDMF file."""

    __slots__ = ()
    kind = "SSK-Verifier"
    hints = False


class MdmfWriteCap(_WriteCap):
    """The right to read and write one MDMF file."""

    __slots__ = ()
    kind = "MDMF"
    hints = True

    def read_cap(self) -> "MdmfReadCap":
        """Return the capability to read."""
        return MdmfReadCap(self.readkey, self.fingerprint)

    def verify_cap(self) -> "MdmfVerifyCap":
        """Return the capability to check shares without reading."""
        return MdmfVerifyCap(self.storage_index, self.fingerprint)


class MdmfReadCap(_ReadCap):
    """The right to read one MDMF file."""

    __slots__ = ()
    kind = "MDMF-RO"
    hints = True

    def verify_cap(self) -> "MdmfVerifyCap":
        """Return the capability to check shares without reading."""
        return MdmfVerifyCap(self.storage_index, self.fingerprint)


class MdmfVerifyCap(_VerifyCap):
    """The right to check the shares of one MDMF file."""

    __slots__ = ()
    kind = "MDMF-Verifier"
    hints = True


FileCap: TypeAlias = (
    LitCap
    | ChkReadCap
    | ChkVerifyCap
    | SdmfWriteCap
    | SdmfReadCap
    | SdmfVerifyCap
    | MdmfWriteCap
    | MdmfReadCap
    | MdmfVerifyCap
)
