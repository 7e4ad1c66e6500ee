"""The parsers of everything that comes from outside: valid inputs, and the errors they declare."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twisted.web.http_headers import Headers

from tests.fakes.account_lines import BCRYPT, GOOD_KEYS, GOOD_ROOTS, OTHER, WRITE, string
from tests.fakes.certificates import authority
from tests.fakes.ssh_keys import KINDS, key
from truckee.auth import account_edits, accounts, public_keys, signatures
from truckee.auth.public_keys import PublicKey
from truckee.auth.url_checker import understood
from truckee.core import config, grid
from truckee.core.crypto import rsa
from truckee.core.errors import (
    AccountError,
    BadNameError,
    BadURIError,
    ConfigError,
    DirectoryFormatError,
    FileTooLargeError,
    FormatError,
    LayoutError,
    ServerGoneError,
)
from truckee.core.formats import (
    base32,
    caps,
    container,
    dirnode,
    hashtree,
    immutable_share,
    mdmf,
    mutable_share,
    netstring,
    numbers,
    sdmf,
)
from truckee.core.formats.immutable_share import Layout
from truckee.core.formats.segments import Segments
from truckee.core.formats.ueb import Ueb
from truckee.core.posting import Destination, Reply, certificates, is_loopback
from truckee.frontends.ftp import addresses, codec, globbing
from truckee.frontends.gate import proxy
from truckee.frontends.node import endpoints, logs
from truckee.frontends.sftp import attributes as sftp_attributes
from truckee.frontends.sftp import fields, open_flags, packets
from truckee.frontends.sftp.errors import Refused
from truckee.frontends.vfs import paths

VECTORS = Path(__file__).parents[1] / "vectors"
KEY = bytes(range(32))


@dataclass(frozen=True)
class Parser:
    """One parser, with inputs it takes and the errors it may raise for others."""

    name: str
    parse: Callable[[bytes], object]
    seeds: list[bytes]
    errors: tuple[type[Exception], ...]
    cost: int = 1  # so many times as dear as most

    def rounds(self, wanted: int) -> int:
        return max(200, wanted // self.cost)


def vectors(name: str) -> dict:
    return json.loads((VECTORS / f"{name}.json").read_text())


PARSERS: list[Parser] = []


def parser(name: str, seeds: list[bytes], *errors: type[Exception], cost: int = 1):
    def note(f: Callable[[bytes], object]) -> Callable[[bytes], object]:
        PARSERS.append(Parser(name, f, seeds, errors, cost))
        return f

    return note


def as_text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


# primitives


@parser("base32", [base32.b2a(KEY[:n]).encode() for n in range(33)], FormatError)
def _(raw):
    text = raw.decode("latin-1")
    assert base32.b2a(base32.a2b(text)) == text


@parser("netstrings", [b"", b"0:,", b"3:abc,10:0123456789,", b"0:,0:,1::,"], FormatError)
def _(raw):
    assert b"".join(map(netstring.encode, netstring.decode_all(raw))) == raw


@parser("decimal numbers", [b"0", b"007", b"18446744073709551615"], FormatError)
def _(raw):
    assert 0 <= numbers.parse_decimal(raw, 2**64) <= 2**64


CAPS = [row["cap"].encode() for row in vectors("mutable")["caps"] if row["error"] is None]
CAPS += [text.encode() for text in GOOD_ROOTS.values()]
CAPS += [b"URI:LIT:mfrgg", b"ro.URI:NEW:abc", b"imm.x"]
KNOWN = [raw for raw in CAPS if not isinstance(caps.parse(raw), caps.UnknownCap)]


@parser("caps", CAPS)
def _(raw):
    for deep in (False, True):
        cap = caps.parse(raw, deep_immutable=deep)
        again = caps.parse(cap.text_bytes, deep_immutable=deep)
        assert type(again) is type(cap)
        assert again.text_bytes == cap.text_bytes


@parser("known caps", KNOWN, BadURIError)
def _(raw):
    caps.parse_strict(raw)


# immutable shares

SEGMENTS = Segments(100_000, 3, 10, 9_999)
UEB = Ueb(SEGMENTS, KEY, KEY, KEY).encode()
LAYOUTS = [Layout.for_file(SEGMENTS, version) for version in (1, 2)]


@parser("URI extension block", [UEB], FormatError)
def _(raw):
    Ueb.decode(raw, 3, 10, 100_000)


@parser("immutable share header", [layout.encode() for layout in LAYOUTS], FormatError)
def _(raw):
    layout = Layout.decode(raw)
    with suppress(LayoutError):
        layout.decode_ueb_length(raw)


@parser(
    "immutable share hash chain",
    [immutable_share.encode_chain(dict.fromkeys(range(n), KEY)) for n in (1, 5, 19)],
    FormatError,
)
def _(raw):
    assert len(immutable_share.decode_chain(raw, 10)) <= 31


TREE = hashtree.build([bytes([n]) * 32 for n in range(16)])
CHAINS = [hashtree.chain_numbers(16, leaf, include_leaf=True) for leaf in (0, 7, 15)]


@parser(
    "hash tree nodes",
    [b"".join(bytes([n]) + TREE[n] for n in chain) for chain in CHAINS],
    FormatError,
)
def _(raw):
    tree = hashtree.PartialTree(16, TREE[0])
    tree.add({raw[at]: raw[at + 1 : at + 33] for at in range(0, len(raw), 33)})
    for number, value in enumerate(TREE):
        assert tree.node(number) in (None, value)


# mutable shares


def shares(layout: str) -> list[bytes]:
    return [
        bytes.fromhex(share["hex"])
        for file in vectors("mutable")["files"]
        if file["format"] == layout
        for share in list(file["shares"].values())[:2]
        if "hex" in share
    ]


@parser("SDMF share", shares("SDMF"), FormatError, FileTooLargeError)
def _(raw):
    share = sdmf.SdmfShare.decode(raw)
    share.header.require_bearable()


@parser("MDMF share", shares("MDMF"), FormatError, FileTooLargeError, cost=2)
def _(raw):
    share = mdmf.MdmfShare.decode(raw)
    share.header.require_bearable()


@parser(
    "mutable share hash chain",
    [mutable_share.encode_chain(dict.fromkeys(range(n), KEY)) for n in (1, 5, 19)],
    FormatError,
)
def _(raw):
    mutable_share.decode_chain(raw, 10)


KEYS = vectors("mutable")["keys"]


@parser("RSA public key", [bytes.fromhex(k["pubkey_der"]) for k in KEYS], FormatError, cost=2)
def _(raw):
    rsa.PublicKey.load(raw)


@parser("RSA private key", [bytes.fromhex(k["privkey_der"]) for k in KEYS], FormatError, cost=30)
def _(raw):
    rsa.load_private(raw)


@parser("PEM private key", [k["pem"].encode() for k in KEYS], FormatError, cost=20)
def _(raw):
    rsa.load_pem(raw)


# containers

LEASE = container.Lease(7, 1_700_000_000, KEY, KEY, bytes(20))
IMMUTABLE = container.ImmutableHeader(2, 500, 3).encode() + bytes(500)
IMMUTABLE += container.encode_immutable_lease(LEASE) * 3
MUTABLE = [
    bytes.fromhex(vectors("mutable")[name]["hex"])
    for name in ("container_v1", "container_v2", "container_v2_two_leases")
]


@parser("immutable container", [IMMUTABLE], FormatError)
def _(raw):
    container.is_mutable(raw[: container.HEAD_SIZE])
    header = container.ImmutableHeader.decode(raw, len(raw))
    assert 0 <= header.leases_offset <= header.file_size <= len(raw)
    container.decode_immutable_leases(raw[header.leases_offset : header.file_size])


@parser("mutable container", MUTABLE, FormatError)
def _(raw):
    container.is_mutable(raw[: container.HEAD_SIZE])
    header = container.MutableHeader.decode(raw, len(raw))
    container.decode_extra_leases(raw[header.extra_offset :])


# directories

DIRECTORIES = vectors("directories")
PACKED = [DIRECTORIES["mutable_dir"]["packed"], DIRECTORIES["modify_base"]]
PACKED = [bytes.fromhex(text) for text in PACKED]
METADATA = [
    b"{}",
    b'{"tahoe": {"linkcrtime": 1.5, "linkmotime": 1e9}, "a": [1, "\\u00e9", null]}',
]


@parser("packed directory", PACKED, DirectoryFormatError, cost=4)
def _(raw):
    tables = [dirnode.Table(raw, writekey=KEY[:16]), dirnode.Table(raw)]
    with suppress(DirectoryFormatError):
        tables.append(dirnode.Table(raw, deep_immutable=True))
    for table in tables:
        for child in table.children().values():
            assert isinstance(child.metadata, dict)


@parser("directory edits", PACKED, DirectoryFormatError, FileTooLargeError, cost=4)
def _(raw):
    editor = dirnode.Editor(raw, KEY[:16])
    before = {entry.raw for entry in dirnode.split(raw) if entry.name != "new"}
    editor.put([editor.entry("new", caps.parse_strict(b"URI:LIT:mfrgg"), {})])
    assert before <= {entry.raw for entry in dirnode.split(editor.pack())}


@parser(
    "encrypted write cap",
    [dirnode.encrypt_write_cap(raw, KEY[:16]) for raw in (b"", WRITE.encode())],
)
def _(raw):
    caps.parse(dirnode.decrypt_write_cap(raw, KEY[:16]))


@parser("metadata", METADATA, DirectoryFormatError)
def _(raw):
    assert isinstance(dirnode.parse_metadata(raw), dict)


# files of the node

CONFIGURATION = b"""[grid]
mode = embedded
[embedded]
stores = servers/00, servers/01
[client]
shares.needed = 1
shares.happy = 2
shares.total = 2
[storage]
reserved_space = 10GiB
[ftpd]
enabled = yes
port = tcp:8021:interface=127.0.0.1
passive_ports = 50000-50100
throttle_exempt = 127.0.0.0/8, ::1
masquerade_address = 192.0.2.1
anonymous.rootcap = %b
idle_timeout = 300
""" % GOOD_ROOTS["DIR2-RO"].encode()


@parser("configuration", [CONFIGURATION], ConfigError)
def _(raw):
    found = config.parse(as_text(raw), Path("/nowhere"))
    for path in (*found.stores, found.private, found.access.accounts_file):
        with suppress(OSError):
            path.stat()


ACCOUNTS = "\n".join(
    [
        "#truckee-accounts: 2",
        f"ann {BCRYPT} {WRITE}",
        f"bob plain-password {OTHER} ro proto=ftp,web from=10.0.0.0/8,::1 max-sessions=3",
        f"carl {BCRYPT} {WRITE} expires=2031-12-31",
        "carl !",
        *(f'"d {kind}" {kind} {blob} a comment {WRITE}' for kind, blob in GOOD_KEYS.items()),
    ]
).encode()


@parser("account file", [ACCOUNTS, ACCOUNTS.split(b"\n", 1)[1]], AccountError, cost=4)
def _(raw):
    table = accounts.parse(raw, accounts.Policy())
    for bad in table.bad_lines:
        assert BCRYPT not in str(bad)
        assert "URI:" not in str(bad)


@parser("account file edits", [ACCOUNTS], AccountError, cost=8)
def _(raw):
    document = account_edits.Document.decode(raw)
    account_edits.hash_plaintext(document, lambda password: BCRYPT)
    account_edits.set_password(document, "ann", BCRYPT)
    account_edits.lock(document, "ann")
    account_edits.unlock(document, "ann")
    account_edits.remove(document, "ann")
    document.encode()


@parser(
    "public key",
    [f"{kind} {blob}".encode() for kind, blob in GOOD_KEYS.items()],
    AccountError,
)
def _(raw):
    kind, _, blob = as_text(raw).partition(" ")
    public_keys.parse(kind, blob)


@parser(
    "key file",
    [
        b"".join(f"{kind} {blob} me\n".encode() for kind, blob in GOOD_KEYS.items()),
        b"# none\n\nssh-ed25519 " + GOOD_KEYS["ssh-ed25519"].encode(),
    ],
    AccountError,
)
def _(raw):
    for found in public_keys.parse_file(as_text(raw)):
        assert found.fingerprint.startswith("SHA256:")
        assert public_keys.parse(found.key_type, found.text) == PublicKey(
            found.key_type, found.blob
        )


SIGNED = b"what an SSH client signs"


@parser("SSH signature", [signer.sign(SIGNED) for signer in map(key, KINDS)], cost=4)
def _(raw):
    for signer in map(key, KINDS):
        if signatures.verify(signer.algorithm, signer.blob, SIGNED, raw):
            assert raw.startswith(string(signer.algorithm))
        assert not signatures.verify(signer.algorithm, signer.blob, b"something else", raw)


@parser("signing key", [signer.blob for signer in map(key, KINDS)], cost=4)
def _(raw):
    for signer in map(key, KINDS):
        if signatures.verify(signer.algorithm, raw, SIGNED, signer.sign(SIGNED)):
            assert raw.startswith(string(signer.key_type.encode()))


@parser(
    "answer of an account URL",
    [WRITE.encode(), b" 0\n", WRITE.encode() + b"\x00ro"],
    ServerGoneError,
)
def _(raw):
    body, _, options = raw.partition(b"\x00")
    headers = Headers({b"X-Truckee-Options": [options]} if b"\n" not in options else {})
    understood(Reply(200, headers, body))


@parser("address to post to", [b"https://example.org:1/a?b", b"http://[::1]/"], ConfigError)
def _(raw):
    place = Destination.parse(as_text(raw))
    assert place.secure or place.host == "localhost" or is_loopback(place.host)
    assert place.url.isascii()


@parser("CA file", [authority().pem], ConfigError, cost=2)
def _(raw):
    assert certificates(raw)


@parser(
    "endpoint", [b"8021", b"127.0.0.1:0", b"[::1]:8021", b"tcp:1:interface=127.0.0.1"], ConfigError
)
def _(raw):
    text = endpoints.parse(as_text(raw))
    endpoints.is_loopback(text)


@parser(
    "PROXY header",
    [
        b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 8021\r\n",
        b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\nSSH-2.0-x\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x27" + bytes(39),
    ],
    FormatError,
)
def _(raw):
    found = proxy.parse(raw)
    assert found is None or found.size <= len(raw)


KNOWN_STORES = f"{base32.b2a(bytes(20))} servers/00\n{base32.b2a(b'x' * 20)} /mnt/a b\n".encode()


@parser("known stores", [KNOWN_STORES], ConfigError)
def _(raw):
    known = grid.parse_known(raw, Path("/nowhere"))
    for path in known:
        with suppress(OSError):
            path.stat()


# FTP


@parser(
    "FTP lines with Telnet",
    [
        b"USER ann\r\nPASS a b \xff\xff c\r\nNOOP\n",
        b"\xff\xf4\xff\xf2ABOR\r\n",
        b"\xff\xfa\x01\x02\xff\xf0\xff\xfb\x01STOR \xc3\xa9\r\n",
    ],
    FormatError,
    codec.LineTooLongError,
)
def _(raw):
    whole, pieces = codec.LineBuffer(), codec.LineBuffer()
    whole.feed(raw)
    for at in range(0, len(raw), 7):
        pieces.feed(raw[at : at + 7])
    while (line := whole.next_line()) is not None:
        assert pieces.next_line() == line
        codec.looks_like_http(line)
        codec.parse_command(line)


@parser(
    "FTP addresses",
    [b"127,0,0,1,200,1", b"|1|127.0.0.1|51201|", b"|2|::1|51201|", b"1", b"ALL"],
    FormatError,
    addresses.UnsupportedFamilyError,
    addresses.ForeignAddressError,
)
def _(raw):
    read = addresses.parse_port if b"," in raw else addresses.parse_eprt
    if b"|" not in raw and b"," not in raw:
        addresses.parse_epsv(raw)
        return
    target = read(raw)
    addresses.check_target(target, "::1" if target.host.version == 6 else "127.0.0.1")
    assert target.host.is_loopback
    assert 1024 <= target.port < 65536


@parser("FTP offsets", [b"0", b"9223372036854775807", b"10 R 5", b"10"], FormatError)
def _(raw):
    read = codec.parse_allo if b"R" in raw else codec.parse_offset
    assert 0 <= read(raw) < 2**63


@parser(
    "FTP times",
    [b"20010203040506 a b", b"20010203040506.789 x", b"19700101000000 /"],
    FormatError,
)
def _(raw):
    seconds, _ = codec.time_and_path(raw)
    assert codec.parse_time(codec.format_time(seconds).encode()) == seconds


@parser(
    "SITE arguments",
    [b"200302030405 a b", b"a b 20010203040507 20010203040506 20010203040508 UTC", b"0644 a"],
    FormatError,
)
def _(raw):
    try:
        codec.parse_utime(raw)
    except FormatError:
        mode, _ = codec.parse_chmod(raw)
        assert 0 <= mode <= 0o7777


@parser("FTP globs", [b"*", b"a?[a-z]*[!x]", b"*" * 255, b"[]-a]", "é*日".encode()])
def _(raw):
    text = as_text(raw)
    globbing.Pattern(text).matches(text)
    globbing.Pattern(text).matches("a" * 255)


@parser("FTP option words", [b"-la /x", b"-a -l", b"-- x"])
def _(raw):
    assert raw.endswith(codec.strip_options(raw))


@parser("FTP quotes", [b'a "b" c', b"\r\n", "\u2028".encode()])
def _(raw):
    sent = codec.reply(257, codec.quoted(as_text(raw))).encode()
    assert sent.count(b"\n") == sent.count(b"\r") == 1
    assert sent.endswith(b"\r\n")


@parser("paths", [b"/a/b/../c", "é/../日本/.".encode(), b"//x//y/", b"~"], BadNameError)
def _(raw):
    for name in paths.parse(raw, ("here", "there"), lines=True):
        assert name not in ("", ".", "..")
        assert not set("/\0\r\n") & set(name)


# SFTP


def _packet(kind: int, body: bytes) -> bytes:
    return (len(body) + 5).to_bytes(4, "big") + bytes([kind]) + bytes(4) + body


def _text(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


ATTRS = bytes.fromhex("8000000f") + bytes(7) + b"\x05" + bytes(12) + bytes.fromhex("000081a4")
ATTRS = ATTRS[:-4] + bytes(4) + ATTRS[-4:] + bytes(7) + b"\x01" + _text(b"a") + _text(b"b")


@parser(
    "SFTP packets",
    [
        _packet(3, _text("/é".encode()) + bytes(3) + b"\x1a" + ATTRS),
        _packet(5, _text(b"0" * 16) + bytes(12)) + _packet(4, _text(b"0" * 16)),
        _packet(6, _text(b"0" * 16) + bytes(8) + _text(b"data")) + _packet(16, _text(b"")),
        _packet(18, _text(b"/a") + _text(b"/b")) + _packet(20, _text(b"/a")),
        _packet(200, _text(b"copy-data") + _text(b"0") + bytes(16) + _text(b"1") + bytes(8)),
        _packet(200, _text(b"posix-rename@openssh.com") + _text(b"/a") + _text(b"/b")),
    ],
    FormatError,
)
def _(raw):
    whole, pieces = packets.Splitter(), packets.Splitter()
    whole.feed(raw)
    found = []
    while (packet := whole.next_packet()) is not None:
        found.append(packet.request())
    for at in range(0, len(raw), 7):
        pieces.feed(raw[at : at + 7])
        while (packet := pieces.next_packet()) is not None:
            assert packet.request() == found.pop(0)
    assert not found


@parser("SFTP attributes", [ATTRS, bytes(4)], FormatError)
def _(raw):
    wanted = sftp_attributes.decode(fields.Cursor(raw, 0, len(raw)))
    assert wanted.size is None or 0 <= wanted.size < 2**64


@parser("SFTP open flags", [b"\x01", b"\x1a", b"\x2a"], Refused)
def _(raw):
    opening = open_flags.decide(int.from_bytes(raw[:4], "big"))
    assert opening.reads or opening.writes


# the last net


@parser("log redaction", [*CAPS, BCRYPT.encode(), b"-----BEGIN RSA PRIVATE KEY-----\nx", b"once=a"])
def _(raw):
    logs.escape(logs.redact(as_text(raw)))
