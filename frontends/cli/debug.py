"""``truckee debug``: look at capabilities and share files from outside, without a node.

Knows the formats; touches the files it is given, and stores nothing.
"""

import os
import stat
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from truckee.core import files
from truckee.core.client import account_convergence
from truckee.core.cpu import InlineCpu
from truckee.core.crypto import hashes, rsa
from truckee.core.errors import ConfigError, FormatError, TruckeeError
from truckee.core.formats import base32, caps, container, immutable_share, mdmf, sdmf, ueb
from truckee.core.interfaces import Encoding
from truckee.core.upload.sources import FileSource
from truckee.core.upload.upload import Uploader
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit, say
from truckee.frontends.node import creation

_SMALL = 1 << 20


@click.group()
def debug() -> None:
    """Look inside capabilities and shares."""


@debug.command(name="cap")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--needed", type=int, default=3, show_default=True, help="k.")
@click.option("--total", type=int, default=10, show_default=True, help="N.")
@click.option("--segment-size", type=int, default=1048576, show_default=True, help="Bytes at most.")
@click.option("--convergence", metavar="BASE32|@FILE", help="Secret mixed into the key.")
@click.option("--account", metavar="NAME", help="As an account of the node would store it.")
@click.option("--private-key", type=click.Path(path_type=Path), metavar="PEM", help="An RSA key.")
@click.option("--format", "layout", type=click.Choice(["sdmf", "mdmf"]), help="With --private-key.")
@click.pass_obj
def cap_(
    settings: Settings,
    file: Path | None,
    needed: int,
    total: int,
    segment_size: int,
    convergence: str | None,
    account: str | None,
    private_key: Path | None,
    layout: str | None,
) -> int:
    """Print the read cap that FILE would get, or the write cap of a private key; store nothing."""
    if (file is None) == (private_key is None):
        raise click.UsageError("give FILE or --private-key")
    if private_key is not None:
        if layout is None:
            raise click.UsageError("--private-key needs --format")
        say(_mutable_cap(private_key, layout))
        return Exit.OK
    assert file is not None  # noqa: S101 - for the type checker: just tested
    try:
        encoding = Encoding(needed, needed, total, segment_size)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    secret = _convergence(settings, convergence)
    if account is not None:
        secret = account_convergence(secret, unicodedata.normalize("NFC", account))
    say(_immutable_cap(file, encoding, secret))
    return Exit.OK


def _mutable_cap(path: Path, layout: str) -> str:
    try:
        pair = rsa.load_pem(_read(path))
    except FormatError as error:
        raise CommandError(f"cannot use the key in {path}", str(error)) from None
    writekey = hashes.mutable_writekey(pair.private_der)
    fingerprint = hashes.mutable_fingerprint(pair.public_der)
    kind = caps.SdmfWriteCap if layout == "sdmf" else caps.MdmfWriteCap
    return kind(writekey, fingerprint).text


def _read(path: Path) -> bytes:
    try:
        return files.read(path, _SMALL, private=False)
    except (OSError, ConfigError) as error:
        why = error.strerror or "" if isinstance(error, OSError) else str(error)
        raise CommandError(f"cannot read {path}", why, code=Exit.NOT_FOUND) from None


def _convergence(settings: Settings, given: str | None) -> bytes:
    """Return the secret: spelled out, in a file, or that of the node."""
    if given is not None and not given.startswith("@"):
        text = given
    elif given is not None:
        text = _read(Path(given[1:])).decode("ascii", "replace")
    else:
        if creation.config_path(settings.directory) is None:
            advice = "--convergence @FILE, or -d DIR in front"
            raise CommandError("no convergence secret", "there is no node", advice, Exit.USAGE)
        path = creation.load(settings.directory).private / "convergence"
        text = _read(path).decode("ascii", "replace")
    try:
        return base32.a2b(text.strip())
    except FormatError as error:
        raise CommandError("the convergence secret is damaged", str(error)) from None


def _immutable_cap(path: Path, encoding: Encoding, convergence: bytes) -> str:
    if not path.is_file():
        raise CommandError(f"cannot read {path}", "it is not a file", code=Exit.NOT_FOUND)
    cpu = InlineCpu()
    uploader = Uploader(lambda: (), cpu, Clock(), b"")
    work = uploader.compute_cap(FileSource(path, cpu), encoding, convergence)
    results: list[object] = []
    _ = Deferred.fromCoroutine(work).addBoth(results.append)
    (result,) = results  # everything runs inline: it has ended
    if not isinstance(result, caps.LitCap | caps.ChkReadCap):
        error = getattr(result, "value", None)
        why = str(error) if isinstance(error, TruckeeError) else type(error).__name__
        raise CommandError(f"cannot compute the capability of {path}", why)
    return result.text


@debug.command(name="dump-cap")
@click.argument("source", metavar="@FILE|-")
@click.pass_obj
def dump_cap(settings: Settings, source: str) -> int:
    """Show what a capability says; its keys are not shown."""
    text = sys.stdin.read(_SMALL) if source == "-" else _read(Path(source.removeprefix("@")))
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    cap = caps.parse(text.strip())
    if isinstance(cap, caps.UnknownCap):
        raise CommandError("this capability is not known", str(cap.error or ""))
    say(f"kind: {':'.join(cap.text.split(':', 2)[:2])}")
    say(f"read-only: {'yes' if cap.is_readonly else 'no'}")
    say(f"mutable: {'yes' if cap.is_mutable else 'no'}")
    if cap.storage_index is not None:
        say(f"storage index: {base32.b2a(cap.storage_index)}")
    inner = cap.inner if isinstance(cap, caps.DirectoryCap) else cap
    for field, shown in (("needed_shares", "k"), ("total_shares", "N"), ("size", "size")):
        if hasattr(inner, field):
            say(f"{shown}: {getattr(inner, field)}")
    if hasattr(inner, "ueb_hash"):
        say(f"UEB hash: {base32.b2a(inner.ueb_hash)}")
    if hasattr(inner, "fingerprint"):
        say(f"fingerprint: {base32.b2a(inner.fingerprint)}")
    return Exit.OK


@debug.command(name="dump-share")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def dump_share(settings: Settings, file: Path) -> int:
    """Show what a share file says of itself; secrets in it are not shown."""
    try:
        with files.opened(file) as fd:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError("it is not a file")
            share = _ShareFile(fd, found.st_size)
            for name, value in share.describe():
                say(f"{name:>24}: {value}")
    except (OSError, ConfigError) as error:
        why = error.strerror or "" if isinstance(error, OSError) else str(error)
        raise CommandError(f"cannot read {file}", why, code=Exit.NOT_FOUND) from None
    except FormatError as error:
        raise CommandError(f"{file} is damaged or no share file", str(error)) from None
    return Exit.OK


Line = tuple[str, object]


@dataclass(slots=True)
class _ShareFile:
    """A share file, read piece by piece."""

    fd: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, min(length, _SMALL), offset)

    def describe(self) -> Iterator[Line]:
        if container.is_mutable(self.read(0, container.HEAD_SIZE)):
            yield from self._mutable_container()
        else:
            yield from self._immutable_container()

    def _immutable_container(self) -> Iterator[Line]:
        head = self.read(0, container.IMMUTABLE_HEADER_SIZE)
        header = container.ImmutableHeader.decode(head, self.size)
        yield "container", f"immutable, version {header.version}"
        yield "share file size", self.size
        yield "share data", header.data_length
        yield "leases", header.lease_count
        start = container.IMMUTABLE_HEADER_SIZE
        raw = self.read(start, min(header.data_length, immutable_share.MAX_HEADER_SIZE))
        layout = immutable_share.Layout.decode(raw)
        yield "share version", layout.version
        yield "block size", layout.block_size
        for name in ("data", "ciphertext_tree", "block_tree", "share_chain", "ueb"):
            yield f"{name.replace('_', ' ')} at", getattr(layout, name)
        at = start + layout.ueb
        length = layout.decode_ueb_length(self.read(at, layout.ueb_length_size))
        yield from _ueb_lines(self.read(at + layout.ueb_length_size, length))

    def _mutable_container(self) -> Iterator[Line]:
        head = self.read(0, container.MUTABLE_HEADER_SIZE)
        header = container.MutableHeader.decode(head, self.size)
        leases = sum(lease is not None for lease in header.slots)
        extra = self.read(header.extra_offset, self.size - header.extra_offset)
        yield "container", f"mutable, version {header.version}"
        yield "share file size", self.size
        yield "server nodeid", base32.b2a(header.nodeid)
        yield "share data", header.data_length
        yield "leases", leases + len(container.decode_extra_leases(extra))
        raw = self.read(container.MUTABLE_HEADER_SIZE, min(header.data_length, mdmf.HEADER_SIZE))
        is_sdmf = raw[:1] == bytes([sdmf.VERSION])
        share, sections = sdmf.decode_header(raw) if is_sdmf else mdmf.decode_header(raw)
        yield "share", "SDMF" if is_sdmf else "MDMF"
        yield "seqnum", share.seqnum
        yield "root hash", base32.b2a(share.root_hash)
        yield "needed shares", share.geometry.needed_shares
        yield "total shares", share.geometry.total_shares
        yield "segment size", share.geometry.segment_size
        yield "size", share.geometry.size
        for name in ("pubkey", "signature", "chain", "block_hashes", "data", "encprivkey"):
            section = getattr(sections, name)
            yield f"{name.replace('_', ' ')} at", f"{section.start} to {section.end}"


def _ueb_lines(raw: bytes) -> Iterator[Line]:
    yield "UEB hash", base32.b2a(hashes.ueb_hash(raw))
    for key, value in ueb.split(raw).items():
        name = key.decode("ascii", "replace").replace("_", " ")
        yield name, base32.b2a(value) if b"hash" in key else value.decode("ascii", "replace")
