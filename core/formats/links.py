"""From the two capability slots of a link to what the link grants: pure rules.

Knows capabilities, the `ro.` and `imm.` prefixes, and the constraint of an immutable directory;
touches nothing. A target is a known capability, or an `UnknownLink` that holds on to capabilities
of a later version without ever giving more than their writer gave. Rules: docs/formats/directories.
"""

from dataclasses import dataclass

from truckee.core.errors import (
    MustBeDeepImmutableError,
    MustNotBeUnknownRWError,
    TruckeeError,
)
from truckee.core.formats import caps
from truckee.core.formats.caps import DirectoryCap, FileCap, UnknownCap

RO = b"ro."
IMM = b"imm."


@dataclass(frozen=True, slots=True, repr=False)
class UnknownLink:
    """Capabilities that are not understood here, or the error that keeps them from being stored.

    With an error both capabilities are None.
    """

    write: bytes | None = None
    read: bytes | None = None
    error: TruckeeError | None = None

    def __repr__(self) -> str:
        return f"<UnknownLink {type(self.error).__name__ if self.error else 'opaque'}>"


KnownCap = FileCap | DirectoryCap
Target = KnownCap | UnknownLink

_VERIFIERS = (caps.SdmfVerifyCap, caps.MdmfVerifyCap)


def resolve(write: bytes | None, read: bytes | None, *, deep_immutable: bool = False) -> Target:
    """Return what a link with these two slots grants; never raises.

    A write capability in the read slot is diminished: packing one there must not hand authority to
    those who can only read the directory.
    """
    given = write or read
    if not given:
        return UnknownLink()
    cap = caps.parse(given, deep_immutable=deep_immutable)
    if not isinstance(cap, UnknownCap) and _makes_node(cap):
        return cap if write else cap.read_cap()
    return _unknown(write or None, read or None, deep_immutable)


def write_text(target: Target) -> bytes | None:
    """Return the text of the write capability that `target` gives, or None."""
    if isinstance(target, UnknownLink):
        return target.write
    return None if target.is_readonly else target.text.encode("ascii")


def read_text(target: Target) -> bytes | None:
    """Return the text of the read capability that `target` gives, or None."""
    if isinstance(target, UnknownLink):
        return target.read
    return target.read_cap().text.encode("ascii")


def diminished(target: Target) -> Target:
    """Return `target` without its write authority."""
    if isinstance(target, UnknownLink):
        return target if target.write is None else UnknownLink(read=target.read)
    return target.read_cap()


def allowed_in_immutable(target: Target) -> bool:
    """Tell whether `target` may be linked from an immutable directory."""
    if isinstance(target, UnknownLink):
        return target.error is None and target.write is None
    return not target.is_mutable


def is_directory(target: Target) -> bool:
    """Tell whether `target` is known to be a directory."""
    return not isinstance(target, UnknownLink) and target.is_directory


def is_unknown(target: Target) -> bool:
    """Tell whether `target` is of a kind that is not understood here."""
    return isinstance(target, UnknownLink)


def strip_prefix(read: bytes, *, deep_immutable: bool) -> bytes:
    """Return the text under which a read capability is stored.

    The context gives the prefix back on reading; `imm.` says more than a mutable directory implies
    and stays there.
    """
    if read.startswith(RO):
        return read[len(RO) :]
    if deep_immutable and read.startswith(IMM):
        return read[len(IMM) :]
    return read


def _makes_node(cap: KnownCap) -> bool:
    """Verify caps give no node, but for that of an immutable file: it can be checked."""
    if isinstance(cap, DirectoryCap):
        return not isinstance(cap.inner, (*_VERIFIERS, caps.ChkVerifyCap))
    return not isinstance(cap, _VERIFIERS)


def _unknown(write: bytes | None, read: bytes | None, deep: bool) -> UnknownLink:
    if read is None:
        if write is None or not (write.startswith(IMM) or (write.startswith(RO) and not deep)):
            return UnknownLink(error=MustNotBeUnknownRWError("an unknown write capability alone"))
        return _unknown(None, write, deep)
    if write is not None and (deep or read.startswith(IMM)):
        return UnknownLink(error=MustBeDeepImmutableError("beside an immutable one"))
    cap = caps.parse(read, deep_immutable=deep)
    if isinstance(cap, UnknownCap):
        if cap.error is not None:
            return UnknownLink(error=cap.error)
    elif not cap.is_readonly:
        read = cap.read_cap().text.encode("ascii")
    return UnknownLink(write, _prefixed(read, deep))


def _prefixed(read: bytes, deep: bool) -> bytes:
    if read.startswith(IMM):
        return read
    bare = read.removeprefix(RO)
    return (IMM if deep else RO) + bare
