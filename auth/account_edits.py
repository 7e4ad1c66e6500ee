"""Changes to the account file: lines in, lines out, and the file replaced as a whole.

Knows how a line is written and which lines belong to a name; `edit` touches the disk. Lines that an
edit is not about stay as they are, byte for byte, bad ones included. Errors are AccountError.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from truckee.auth.account_file import read_account_file
from truckee.auth.accounts import (
    HEADER,
    MAXIMUM_SIZE,
    Policy,
    check_name,
    is_quoted,
    is_root,
    parse,
    parse_options,
    parse_password,
    parse_rootcap,
    split,
)
from truckee.auth.passwords import MAXIMUM_PASSWORD
from truckee.auth.public_keys import KEY_TYPES, PublicKey, is_key_type
from truckee.auth.public_keys import parse as parse_key
from truckee.core import files
from truckee.core.errors import AccountError

_PLAIN = re.compile(r"[^\s\"'\\#][^\s\"'\\]*")
_SHORTEST = 6  # letters of a fingerprint
_HASH = re.compile(r"\$2[aby]\$.*")
_POLICY = Policy(plaintext="allow", key=b"only looked at")
Change = Callable[["Document"], None]


@dataclass(slots=True)
class Document:
    """The text of an account file, line by line."""

    lines: list[str]

    @classmethod
    def decode(cls, data: bytes) -> "Document":
        """Return the document; AccountError when it is not UTF-8."""
        try:
            lines = data.decode("utf-8-sig").split("\n")
        except UnicodeDecodeError:
            raise AccountError("the account file is not UTF-8") from None
        return cls(lines if lines[-1] else lines[:-1])

    @classmethod
    def new(cls) -> "Document":
        """Return the beginning of a new file."""
        note = "# NAME SECRET-or-KEY ROOTCAP [options]; see docs/accounts.rst. Keep mode 0600."
        return cls([HEADER, note])

    def encode(self) -> bytes:
        """Return the text, ended by a newline."""
        data = "".join(f"{line}\n" for line in self.lines).encode("utf-8")
        if len(data) > MAXIMUM_SIZE:
            raise AccountError("the account file would be larger than 1 MiB")
        return data

    @property
    def quoted(self) -> bool:
        """Whether fields may be quoted here."""
        return bool(self.lines) and is_quoted(self.lines[0])

    def fields(self, number: int) -> list[str]:
        """Return the fields of a line; empty for a comment and for a line that cannot be split."""
        line = self.lines[number].strip(" \t\r")
        if not line or line.startswith("#"):
            return []
        fields, broken = split(line, quoted=self.quoted)
        return [] if broken else fields

    def lines_of(self, name: str) -> list[int]:
        """Return the numbers of the lines of a name; AccountError when there is none."""
        wanted = unicodedata.normalize("NFC", name)
        found = [
            number
            for number in range(len(self.lines))
            if (fields := self.fields(number)) and unicodedata.normalize("NFC", fields[0]) == wanted
        ]
        if not found:
            raise AccountError("there is no account of that name")
        return found

    def has(self, name: str) -> bool:
        """Return whether any line begins with this name."""
        try:
            return bool(self.lines_of(name))
        except AccountError:
            return False

    def written(self, fields: Sequence[str]) -> str:
        """Return the line of these fields."""
        return " ".join(self._quote(field) for field in fields)

    def _quote(self, field: str) -> str:
        if _PLAIN.fullmatch(field):
            return field
        if not self.quoted:
            raise AccountError(f"this needs quotes: make the first line of the file {HEADER}")
        escaped = field.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    def secret_line(self, name: str) -> int | None:
        """Return the number of the line with the password of a name, or `-` in its place."""
        marks = {"!", "*"}
        without = None
        for number in self.lines_of(name):
            fields = self.fields(number)
            if len(fields) < 2 or is_key_type(fields[1]) or fields[1] in marks:
                continue
            if fields[1] != "-":
                return number
            without = number if without is None else without
        return without

    def keys_of(self, name: str) -> dict[int, PublicKey]:
        """Return the public keys of a name by the numbers of their lines."""
        found = {}
        for number in self.lines_of(name):
            fields = self.fields(number)
            if len(fields) > 2 and fields[1] in KEY_TYPES:
                with suppress(AccountError):
                    found[number] = parse_key(fields[1], fields[2], _comment(fields))
        return found


def add(document: Document, name: str, secret: str, root: str, options: Sequence[str]) -> None:
    """Add an account that is not there yet; `secret` is a bcrypt hash, ``-`` or ``!``."""
    name = check_name(name)
    if document.has(name):
        raise AccountError("there is an account of that name already")
    parse_rootcap(root)
    parse_options(list(options))
    _check_secret(secret)
    document.lines.append(document.written([name, secret, root, *options]))


def _check_secret(secret: str) -> None:
    if secret in {"-", "!"}:
        return
    if not _HASH.fullmatch(secret):
        raise AccountError("only a bcrypt hash is written to the file")
    parse_password(secret, _POLICY)


def add_key(document: Document, name: str, key: PublicKey) -> None:
    """Add a public key to an account."""
    if any(known.blob == key.blob for known in document.keys_of(name).values()):
        raise AccountError("the account has this key already")
    comment = [word for word in key.comment.split() if _PLAIN.fullmatch(word) and not is_root(word)]
    fields = [check_name(name), key.key_type, key.text, *comment, "="]
    document.lines.append(document.written(fields))


def remove_key(document: Document, name: str, wanted: str) -> PublicKey:
    """Remove the key of which `wanted` is the fingerprint, its beginning, or the comment.

    What its line says besides, a root or options, stays. Raises AccountError unless it is one key.
    """
    keys = document.keys_of(name)
    found = [number for number, key in keys.items() if _is_meant(key, wanted)]
    blobs = {keys[number].blob for number in found}
    if len(blobs) != 1:
        bare = wanted.removeprefix("SHA256:")
        hint = f"; give {_SHORTEST} letters of the fingerprint" if len(bare) < _SHORTEST else ""
        raise AccountError("more than one key is meant" if blobs else f"there is no such key{hint}")
    for number in reversed(found):
        fields = document.fields(number)
        at = _root_at(fields)
        if fields[at:] == ["="]:
            del document.lines[number]
        else:
            document.lines[number] = document.written([fields[0], "-", *fields[at:]])
    return keys[found[0]]


def _is_meant(key: PublicKey, wanted: str) -> bool:
    if wanted == key.comment:
        return True
    bare = wanted.removeprefix("SHA256:")
    return len(bare) >= _SHORTEST and key.fingerprint.removeprefix("SHA256:").startswith(bare)


def _root_at(fields: Sequence[str]) -> int:
    return next((i for i, word in enumerate(fields) if i > 2 and is_root(word)), len(fields))


def _comment(fields: Sequence[str]) -> str:
    return " ".join(fields[3 : _root_at(fields)])


def lines_to_import(
    source: Document, names: Sequence[str], hash_password: Callable[[bytes], str]
) -> dict[str, list[list[str]]]:
    """Return the lines of these names of another file as fields, with hashes for passwords.

    A name with a password that bcrypt cannot take is left out.
    """
    found = {}
    for name in names:
        with suppress(AccountError):
            found[name] = [
                _hashed(source.fields(number), hash_password) for number in source.lines_of(name)
            ]
    return found


def _hashed(fields: list[str], hash_password: Callable[[bytes], str]) -> list[str]:
    name, secret, *rest = fields
    if secret in {"-", "!", "*"} or is_key_type(secret) or _HASH.fullmatch(secret):
        return fields
    password = secret.encode("utf-8")
    if len(password) > MAXIMUM_PASSWORD:
        raise AccountError("a password over 72 bytes cannot be hashed")
    return [name, hash_password(password), *rest]


def add_lines(document: Document, name: str, lines: Sequence[Sequence[str]]) -> None:
    """Add an account that is not there yet, line by line."""
    if document.has(name):
        raise AccountError("there is an account of that name already")
    document.lines.extend([document.written(fields) for fields in lines])


def set_password(document: Document, name: str, hashed: str) -> None:
    """Replace the password of an account, or give it one."""
    _check_secret(hashed)
    number = document.secret_line(name)
    if number is None:
        document.lines.append(document.written([check_name(name), hashed, "="]))
    else:
        name, _, *rest = document.fields(number)
        document.lines[number] = document.written([name, hashed, *rest])


def lock(document: Document, name: str) -> None:
    """Refuse every login of an account; what it had is kept."""
    if not _locks(document, name):
        document.lines.append(document.written([check_name(name), "!", "="]))


def unlock(document: Document, name: str) -> None:
    """Undo `lock`. An account that was nothing but locked keeps its root and has no password."""
    locks = _locks(document, name)
    if not locks:
        raise AccountError("the account is not locked")
    first = document.lines_of(name)[0]
    for number in reversed(locks):
        fields = document.fields(number)
        if number == first:
            document.lines[number] = document.written([fields[0], "-", *fields[2:]])
        else:
            del document.lines[number]


def _locks(document: Document, name: str) -> list[int]:
    lines = document.lines_of(name)
    return [n for n in lines if document.fields(n)[1:2] in (["!"], ["*"])]


def remove(document: Document, name: str) -> None:
    """Remove every line of an account."""
    for number in reversed(document.lines_of(name)):
        del document.lines[number]


def hash_plaintext(document: Document, hash_password: Callable[[bytes], str]) -> list[str]:
    """Replace every password in plaintext by its hash; return the names, each once."""
    table = parse(document.encode(), _POLICY)
    done = []
    for line in table.plaintext_lines:
        name, password, *rest = document.fields(line - 1)
        secret = password.encode("utf-8")
        if len(secret) > MAXIMUM_PASSWORD:
            raise AccountError(f"line {line}: a password over 72 bytes cannot be hashed")
        document.lines[line - 1] = document.written([name, hash_password(secret), *rest])
        done.append(name)
    return list(dict.fromkeys(done))


def edit(path: Path, change: Change, *, create: bool = False) -> None:
    """Apply a change to the file, in turn with other writers; readers see the old or the new one.

    Raises AccountError when the file or the change breaks a rule; then nothing was written.
    """
    with files.locked_directory(path.parent):
        if create and not path.exists():
            document = Document.new()
        else:
            document = Document.decode(read_account_file(path)[0])
        change(document)
        files.replace(path, document.encode())


def read(path: Path) -> Document:
    """Return the document; AccountError when it cannot be used."""
    return Document.decode(read_account_file(path)[0])
