"""The account file: names, their secrets, the directory each may enter, and their options.

Knows the grammar (docs/accounts.rst) and what makes a line bad; touches nothing but the date (in
`today`): bytes in, a table out. A bad line switches its whole name off, so that a slip while
revoking something never leaves the old entry in force. Passwords in plaintext are kept as a keyed
digest only. Neither an error nor a ``repr`` shows a secret or a capability.
"""

import hashlib
import hmac
import ipaddress
import re
import shlex
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Literal

from truckee.auth import public_keys
from truckee.auth.public_keys import PublicKey
from truckee.core.errors import AccountError, TruckeeError
from truckee.core.formats.caps import (
    ChkVerifyCap,
    DirectoryCap,
    MdmfVerifyCap,
    SdmfVerifyCap,
    parse_strict,
)

HEADER = "#truckee-accounts: 2"
MAXIMUM_SIZE = 1 << 20
PROTOCOLS = frozenset({"ftp", "sftp", "web"})
PlaintextPolicy = Literal["allow", "warn", "refuse"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_NUMBER = re.compile(r"[0-9]{1,6}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME_LIMIT = 64
_ANONYMOUS = frozenset({"anonymous", "ftp"})


@dataclass(frozen=True, slots=True, repr=False)
class BcryptHash:
    """A password as bcrypt keeps it."""

    text: bytes

    @property
    def cost(self) -> int:
        """Return the base-2 logarithm of the number of rounds."""
        return int(self.text[4:6])


@dataclass(frozen=True, slots=True, repr=False)
class PlaintextDigest:
    """A password that stood in the file as it is: HMAC-SHA-256 under a key of this process."""

    digest: bytes


Password = BcryptHash | PlaintextDigest


@dataclass(frozen=True, slots=True)
class Options:
    """What the lines of a name allow; None where they say nothing."""

    readonly: bool = False
    protocols: frozenset[str] | None = None
    sources: tuple[Network, ...] | None = None
    max_sessions: int | None = None
    expires: date | None = None
    verify_required: bool = False

    def union(self, other: "Options") -> "Options":
        """Return what two lines say together; of two limits the tighter."""
        return Options(
            readonly=self.readonly or other.readonly,
            protocols=_joined(self.protocols, other.protocols),
            sources=_concatenated(self.sources, other.sources),
            max_sessions=_smaller(self.max_sessions, other.max_sessions),
            expires=_earlier(self.expires, other.expires),
            verify_required=self.verify_required or other.verify_required,
        )

    def allows_protocol(self, protocol: str) -> bool:
        """Return whether a frontend of this name may be used."""
        return self.protocols is None or protocol in self.protocols

    def allows_source(self, address: str) -> bool:
        """Return whether a login may come from this address; an unknown one may not."""
        if self.sources is None:
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self.sources)


def _joined(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    return b if a is None else a if b is None else a | b


def _concatenated(
    a: tuple[Network, ...] | None, b: tuple[Network, ...] | None
) -> tuple[Network, ...] | None:
    return b if a is None else a if b is None else tuple(dict.fromkeys(a + b))


def _smaller(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _earlier(a: date | None, b: date | None) -> date | None:
    return b if a is None else a if b is None else min(a, b)


def today() -> date:
    """Return the day in UTC."""
    return datetime.fromtimestamp(time.time(), UTC).date()


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that the good lines of one name say."""

    name: str
    rootcap: DirectoryCap = field(repr=False)
    password: Password | None = field(default=None, repr=False)
    keys: tuple[PublicKey, ...] = field(default=(), repr=False)
    options: Options = Options()
    locked: bool = False

    def is_expired(self, today: date) -> bool:
        """Return whether the last day of this account (UTC) has passed."""
        return self.options.expires is not None and today > self.options.expires

    def authority(self) -> tuple[object, ...]:
        """Return what a session was granted: a session of any other authority must end."""
        options = self.options
        return (self.rootcap, options.readonly, options.protocols, options.expires, self.locked)


@dataclass(frozen=True, slots=True)
class BadLine:
    """Why a line was refused, and with it its name."""

    line: int
    name: str
    reason: str

    def __str__(self) -> str:
        return f"accounts:{self.line}: {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class AccountTable:
    """All accounts of one reading of the file."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    bad_lines: tuple[BadLine, ...] = ()
    plaintext_lines: tuple[int, ...] = ()
    switched_off: frozenset[str] = field(default=frozenset(), repr=False)
    perhaps: frozenset[bytes] = field(default=frozenset(), repr=False)
    key: bytes = field(default=b"", repr=False)

    def get(self, name: str) -> Account | None:
        """Return the account of that name (NFC), or None: unknown, or switched off."""
        return self.accounts.get(name)

    def mentions(self, name: str) -> bool:
        """Return whether a line is about this name (NFC), be it good, bad or possibly meant."""
        if name in self.accounts or name in self.switched_off:
            return True
        return plaintext_digest(self.key, name.encode("utf-8", "replace")) in self.perhaps

    def highest_cost(self, default: int) -> int:
        """Return the highest bcrypt cost in use, or `default` when there is no hash."""
        passwords = [account.password for account in self.accounts.values()]
        return max((p.cost for p in passwords if isinstance(p, BcryptHash)), default=default)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about reading the file."""

    plaintext: PlaintextPolicy = "warn"
    anonymous: bool = False
    key: bytes = field(default=b"", repr=False)


def plaintext_digest(key: bytes, password: bytes) -> bytes:
    """Return what is kept of a plaintext password."""
    return hmac.digest(key, password, hashlib.sha256)


def parse(data: bytes, policy: Policy) -> AccountTable:
    """Return the table of an account file.

    Raises AccountError when the file as a whole cannot be used: empty, too large or not UTF-8.
    """
    if not data:
        raise AccountError("the account file is empty")
    if len(data) > MAXIMUM_SIZE:
        raise AccountError("the account file is larger than 1 MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AccountError("the account file is not UTF-8") from None
    reader = _Reader(policy, quoted=is_quoted(text))
    for number, line in enumerate(text.split("\n"), 1):
        reader.take(number, line.strip(" \t\r"))
    return reader.table()


def is_quoted(text: str) -> bool:
    """Return whether fields are split with shell quoting: the first line says so."""
    return text.removeprefix("\ufeff").split("\n", 1)[0].rstrip() == HEADER


def split(line: str, *, quoted: bool) -> tuple[list[str], str | None]:
    """Return the fields of a line, and the reason when its quoting is broken."""
    if not quoted:
        return [word for word in re.split(r"[ \t]+", line) if word], None
    lexer = shlex.shlex(line, posix=True, punctuation_chars="")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    fields: list[str] = []
    try:
        while (word := lexer.get_token()) is not None:
            fields.append(word)
    except ValueError:
        return fields, "a quote or backslash has no end"
    return fields, None


def check_name(raw: str, *, anonymous: bool = False) -> str:
    """Return a user name in NFC; raise AccountError when no account may have it."""
    name = unicodedata.normalize("NFC", raw)
    if not 1 <= len(name) <= _NAME_LIMIT:
        raise AccountError(f"a name has 1 to {_NAME_LIMIT} characters")
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in name):
        raise AccountError("a name may not hold control characters")
    if "/" in name or ":" in name:
        raise AccountError("a name may not hold / or :")
    if name.startswith("$2"):  # fields in the wrong order: names are shown, hashes are not
        raise AccountError("a name may not begin like a hash")
    if anonymous and name in _ANONYMOUS:
        raise AccountError("this name stands for anonymous logins here")
    return name


def parse_rootcap(text: str) -> DirectoryCap:
    """Return a root capability; raise AccountError unless it names a directory one can enter."""
    try:
        cap = parse_strict(text)
    except TruckeeError:
        raise AccountError("the root is not a well-formed capability") from None
    if not isinstance(cap, DirectoryCap):
        raise AccountError("the root is not a directory capability")
    if isinstance(cap.inner, ChkVerifyCap | SdmfVerifyCap | MdmfVerifyCap):
        raise AccountError("the root is a verify capability, which cannot be read")
    return cap


def parse_password(word: str, policy: Policy) -> Password:
    """Return what is kept of the secret in the second field; AccountError when it is refused."""
    if _BCRYPT.fullmatch(word):
        return BcryptHash(word.encode("ascii"))
    if word.startswith("$"):
        raise AccountError("unknown password hash")
    if policy.plaintext == "refuse":
        raise AccountError("plaintext passwords are refused here")
    if not word:
        raise AccountError("the password is empty")
    return PlaintextDigest(plaintext_digest(policy.key, word.encode("utf-8")))


def parse_options(words: list[str]) -> Options:
    """Return the options after the root capability; raise AccountError for one not known."""
    options = Options()
    for word in words:
        options = options.union(_parse_option(word))
    return options


def _parse_option(word: str) -> Options:
    name, equals, value = word.partition("=")
    match name, bool(equals):
        case "ro", False:
            return Options(readonly=True)
        case "verify-required", False:
            return Options(verify_required=True)
        case "proto", True:
            protocols = frozenset(value.split(","))
            if not protocols <= PROTOCOLS:
                raise AccountError("proto= takes ftp, sftp, web")
            return Options(protocols=protocols)
        case "from", True:
            return Options(sources=tuple(map(_parse_network, value.split(","))))
        case "max-sessions", True:
            if not _NUMBER.fullmatch(value):
                raise AccountError("max-sessions= takes a number")
            return Options(max_sessions=int(value))
        case "expires", True:
            return Options(expires=_parse_date(value))
    raise AccountError("unknown option")


def _parse_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise AccountError("from= takes networks such as 10.0.0.0/8") from None


def _parse_date(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise AccountError("expires= takes a date such as 2031-12-31")


@dataclass(slots=True)
class _Reader:
    """Gathers the lines of a file into accounts."""

    policy: Policy
    quoted: bool
    accounts: dict[str, Account] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)
    plaintext: list[int] = field(default_factory=list)
    with_password: set[str] = field(default_factory=set)
    unfinished: list[str] = field(default_factory=list)
    disabled: set[str] = field(default_factory=set)

    def take(self, number: int, line: str) -> None:
        if not line or line.startswith("#"):
            return
        fields, broken = split(line, quoted=self.quoted)
        name = unicodedata.normalize("NFC", fields[0]) if fields else ""
        try:
            if broken is not None:
                if not fields:  # the name itself has no end: switch off all that it may have been
                    self.unfinished.append(unicodedata.normalize("NFC", line.lstrip("\"'")))
                raise AccountError(broken)
            check_name(name, anonymous=self.policy.anonymous)
            self._take_fields(number, name, fields[1:])
        except AccountError as error:
            self.bad.append(BadLine(number, _shown(name), str(error)))
            self.accounts.pop(name, None)
            self.disabled.add(name)

    def _take_fields(self, number: int, name: str, fields: list[str]) -> None:
        if len(fields) < 2:
            raise AccountError("at least 3 fields expected")
        old = self.accounts.get(name)
        if public_keys.is_key_type(fields[0]):
            account = self._key_line(name, fields, old)
        else:
            account = self._secret_line(number, name, fields, old)
        self.accounts[name] = account

    def _key_line(self, name: str, fields: list[str], old: Account | None) -> Account:
        if fields[0] not in public_keys.KEY_TYPES:
            raise AccountError(f"key type {_shown(fields[0])} not supported")
        at = next((i for i, word in enumerate(fields) if i > 1 and is_root(word)), None)
        if at is None:
            raise AccountError("no root capability after the key")
        key = public_keys.parse(fields[0], fields[1], " ".join(fields[2:at]))
        account = self._rooted(name, fields[at], fields[at + 1 :], old)
        return replace(account, keys=(*account.keys, key))

    def _secret_line(
        self, number: int, name: str, fields: list[str], old: Account | None
    ) -> Account:
        if not is_root(fields[1]):
            raise AccountError("no root capability after the secret")
        account = self._rooted(name, fields[1], fields[2:], old)
        if fields[0] in {"!", "*"}:
            return replace(account, locked=True)
        if fields[0] == "-":
            return account
        if name in self.with_password:
            raise AccountError("a second password line")
        password = parse_password(fields[0], self.policy)
        self.with_password.add(name)
        if isinstance(password, PlaintextDigest):
            self.plaintext.append(number)
        return replace(account, password=password)

    def _rooted(self, name: str, root: str, options: list[str], old: Account | None) -> Account:
        if root == "=":
            if old is None:
                if name in self.disabled:
                    raise AccountError("an earlier line of this name is bad")
                raise AccountError("= stands on the first line of this name")
            rootcap = old.rootcap
        else:
            rootcap = parse_rootcap(root)
            if old is not None and old.rootcap != rootcap:
                raise AccountError("another root than on an earlier line of this name")
        account = old or Account(name, rootcap)
        return replace(account, options=account.options.union(parse_options(options)))

    def table(self) -> AccountTable:
        accounts = {
            name: account
            for name, account in self.accounts.items()
            if name not in self.disabled
            and not any(rest.startswith(name) for rest in self.unfinished)
        }
        return AccountTable(
            MappingProxyType(accounts),
            tuple(self.bad),
            tuple(self.plaintext),
            frozenset(self.disabled),
            frozenset(self._perhaps()),
            self.policy.key,
        )

    def _perhaps(self) -> Iterator[bytes]:
        """Give the digests of all that an unfinished name may have been; secrets may follow it."""
        for rest in self.unfinished:
            for end in range(1, min(len(rest), _NAME_LIMIT) + 1):
                yield plaintext_digest(self.policy.key, rest[:end].encode("utf-8"))


def is_root(word: str) -> bool:
    """Return whether a field stands for a root capability."""
    return word == "=" or word.startswith("URI:")


def _shown(word: str) -> str:
    """Return a name or key type as errors show it: short, printable, and never a secret.

    Where the space between name and secret is missing, the word has both.
    """
    if "URI:" in word or "$2" in word or word.startswith("$"):
        return "?"
    return "".join(c if c.isprintable() else "?" for c in word[:_NAME_LIMIT]) or "?"
