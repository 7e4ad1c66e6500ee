"""Capabilities: any kind from its text; directories, and texts that are not understood.

Knows the names of all kinds of Tahoe-LAFS 1.20; touches nothing. Two capabilities are equal when
their canonical texts are. A text that is not understood is kept verbatim as an `UnknownCap`. No
`repr` shows key material. Format: docs/formats/caps.rst.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias, Union

from truckee.core.errors import (
    BadURIError,
    FormatError,
    MustBeDeepImmutableError,
    MustBeReadonlyError,
    TruckeeError,
)
from truckee.core.formats.file_caps import (
    MAX_SHARES,
    MAX_SIZE,
    ChkReadCap,
    ChkVerifyCap,
    Common,
    FileCap,
    LitCap,
    MdmfReadCap,
    MdmfVerifyCap,
    MdmfWriteCap,
    SdmfReadCap,
    SdmfVerifyCap,
    SdmfWriteCap,
)

__all__ = [
    "MAX_SHARES",
    "MAX_SIZE",
    "MAX_TEXT",
    "Cap",
    "ChkReadCap",
    "ChkVerifyCap",
    "DirectoryCap",
    "FileCap",
    "LitCap",
    "MdmfReadCap",
    "MdmfVerifyCap",
    "MdmfWriteCap",
    "SdmfReadCap",
    "SdmfVerifyCap",
    "SdmfWriteCap",
    "UnknownCap",
    "parse",
    "parse_strict",
]

MAX_TEXT = 65536  # bytes; a longer text is not looked into

_DIRECTORY_KINDS: Mapping[str, type[FileCap]] = {
    "DIR2": SdmfWriteCap,
    "DIR2-RO": SdmfReadCap,
    "DIR2-Verifier": SdmfVerifyCap,
    "DIR2-MDMF": MdmfWriteCap,
    "DIR2-MDMF-RO": MdmfReadCap,
    "DIR2-MDMF-Verifier": MdmfVerifyCap,
    "DIR2-CHK": ChkReadCap,
    "DIR2-CHK-Verifier": ChkVerifyCap,
    "DIR2-LIT": LitCap,
}
_FILE_KINDS: Mapping[str, type[FileCap]] = {t.kind: t for t in _DIRECTORY_KINDS.values()}
_DIRECTORY_NAMES = {file_type: name for name, file_type in _DIRECTORY_KINDS.items()}


@dataclass(frozen=True, slots=True, repr=False)
class DirectoryCap(Common):
    """The same right as `inner`, to a directory whose table is that file's contents."""

    inner: FileCap

    @property
    def text(self) -> str:
        """The canonical text."""
        return f"URI:{_DIRECTORY_NAMES[type(self.inner)]}:{self.inner.body}"

    @property
    def storage_index(self) -> bytes | None:
        """The 16 bytes under which servers keep the shares, if there are any."""
        return self.inner.storage_index

    @property
    def is_readonly(self) -> bool:
        """Whether no change can be made with it."""
        return self.inner.is_readonly

    @property
    def is_mutable(self) -> bool:
        """Whether it gives access to contents that may change; false for verify caps."""
        return self.inner.is_mutable

    @property
    def is_directory(self) -> bool:
        """True."""
        return True

    def write_cap(self) -> Self | None:
        """Return itself if it allows changes."""
        return None if self.is_readonly else self

    def read_cap(self) -> "DirectoryCap":
        """Return the capability to read; a verify cap returns itself."""
        return DirectoryCap(self.inner.read_cap())

    def verify_cap(self) -> "DirectoryCap | None":
        """Return the capability to check shares without reading; None when there are none."""
        inner = self.inner.verify_cap()
        return None if inner is None else DirectoryCap(inner)

    def __repr__(self) -> str:
        return f"<DirectoryCap of {type(self.inner).__name__}>"


@dataclass(frozen=True, slots=True, repr=False)
class UnknownCap(Common):
    """A text that is not understood, or that breaks a constraint; kept byte for byte.

    Nothing can be done with it but carry it. `error` says which rule it breaks, if any. What it
    grants is not known, so it counts as changeable wherever the careful answer is asked for.
    """

    text_bytes: bytes
    error: TruckeeError | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """The text; bytes that are not UTF-8 appear as surrogates."""
        return self.text_bytes.decode("utf-8", "surrogateescape")

    @property
    def storage_index(self) -> None:
        """None: not known."""

    @property
    def is_readonly(self) -> bool:
        """False: not known."""
        return False

    @property
    def is_mutable(self) -> bool:
        """True: not known."""
        return True

    def write_cap(self) -> Self:
        """Return itself."""
        return self

    def read_cap(self) -> Self:
        """Return itself."""
        return self

    def verify_cap(self) -> None:
        """Return None."""


Cap: TypeAlias = Union[FileCap, DirectoryCap, UnknownCap]  # noqa: UP007 - one alias of another

_SHAPE = re.compile(rb"URI:([A-Za-z0-9-]{1,30}):(.*)", re.DOTALL)


def _parse_known(raw: bytes) -> FileCap | DirectoryCap | None:
    """Return the capability; None for a kind that is not known; raise BadURIError if malformed."""
    match = _SHAPE.fullmatch(raw)
    if match is None:
        return None
    kind, body = match[1].decode("ascii"), match[2]
    try:
        if (file_type := _FILE_KINDS.get(kind)) is not None:
            return file_type.parse_body(body)
        if (file_type := _DIRECTORY_KINDS.get(kind)) is not None:
            return DirectoryCap(file_type.parse_body(body))
    except FormatError as error:
        raise BadURIError(f"malformed capability: {error}") from None
    return None


def _to_bytes(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def parse(text: str | bytes, *, deep_immutable: bool = False) -> Cap:
    """Return what `text` says; whatever is not understood or not allowed is an UnknownCap.

    One prefix ``imm.`` or ``ro.`` is a constraint that the rest must meet, and is not part of the
    result; `deep_immutable` is the constraint of ``imm.`` given from outside. Never raises.
    """
    raw = _to_bytes(text)
    must_be_immutable, must_be_readonly, rest = deep_immutable, False, raw
    if raw.startswith(b"imm."):
        must_be_immutable, rest = True, raw[4:]
    elif raw.startswith(b"ro."):
        must_be_readonly, rest = True, raw[3:]
    if len(raw) > MAX_TEXT:
        return UnknownCap(raw, BadURIError("the capability is too long"))
    try:
        cap = _parse_known(rest)
    except BadURIError as error:
        return UnknownCap(raw, error)
    if cap is None:
        return UnknownCap(raw)
    if must_be_immutable and cap.is_mutable:
        return UnknownCap(raw, MustBeDeepImmutableError("something mutable in an immutable place"))
    if must_be_readonly and not cap.is_readonly:
        return UnknownCap(raw, MustBeReadonlyError("a write capability in a read-only place"))
    return cap


def parse_strict(text: str | bytes) -> FileCap | DirectoryCap:
    """Return a known and well-formed capability; raise BadURIError for anything else.

    A prefix whose constraint is broken is refused, too.
    """
    cap = parse(text)
    if isinstance(cap, UnknownCap):
        if isinstance(cap.error, BadURIError):
            raise cap.error
        raise BadURIError(str(cap.error) if cap.error else "not a capability that is known here")
    return cap
