"""Changes of a directory as values, and batches of them: bytes in, bytes out.

Knows the rules of adding, replacing, renaming and removing links; touches nothing. A batch goes
into one modification of the directory's file. Somebody else's write in between makes the whole
batch run again on other bytes, so an edit that was done before must recognise its own result.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from truckee.core.errors import (
    ChildOfWrongTypeError,
    ExistingChildError,
    NoSuchChildError,
    TruckeeError,
)
from truckee.core.formats import links
from truckee.core.formats.dirnode import (
    Child,
    Editor,
    Entry,
    checked_name,
    normalize,
    update_metadata,
)
from truckee.core.formats.links import Target

Overwrite = bool | Literal["only-files"]


class Edit(ABC):
    """One change, whole or not at all."""

    @abstractmethod
    def apply(self, table: Editor, now: float, again: bool) -> Child | None:
        """Change `table`, or raise a TruckeeError and leave it as it was.

        `again`: this edit went well in an earlier attempt of the same batch, whose result may or
        may not have reached the servers.
        """


@dataclass(frozen=True, slots=True)
class SetLinks(Edit):
    """Put links to the given targets; metadata None keeps what a replaced link has."""

    entries: Mapping[str, tuple[Target, Mapping[str, Any] | None]]
    overwrite: Overwrite = True

    def apply(self, table: Editor, now: float, again: bool) -> None:
        """Raise ExistingChildError, BadNameError, FileTooLargeError, or a target's error."""
        named = {checked_name(name): value for name, value in self.entries.items()}
        table.put(
            [
                _set(table, name, target, metadata, self.overwrite, now, again)
                for name, (target, metadata) in named.items()
            ]
        )


@dataclass(frozen=True, slots=True)
class SetMetadata(Edit):
    """Give the link of a name other metadata."""

    name: str
    metadata: Mapping[str, Any]

    def apply(self, table: Editor, now: float, again: bool) -> None:
        """Raise NoSuchChildError, or DirectoryFormatError for metadata that cannot be stored."""
        name = normalize(self.name)
        child = table.child(name)
        if child is None:
            raise NoSuchChildError("no child of that name")
        table.put([_set(table, name, child.target, self.metadata, True, now, again)])


@dataclass(frozen=True, slots=True)
class Delete(Edit):
    """Remove a link. With `only_if`, only while it still leads to that target."""

    name: str
    must_exist: bool = True
    must_be_directory: bool = False
    must_be_file: bool = False
    only_if: Target | None = None

    def apply(self, table: Editor, now: float, again: bool) -> Child | None:
        """Return what was removed; raise NoSuchChildError or ChildOfWrongTypeError."""
        name = normalize(self.name)
        child = table.child(name)
        if self.only_if is not None and (child is None or not _same(child.target, self.only_if)):
            return None
        if child is not None:
            _check_type(child.target, self.must_be_directory, self.must_be_file)
        elif not table.stored(name):  # a hidden entry can be deleted, too
            if self.must_exist and not again:
                raise NoSuchChildError("no child of that name")
            return None
        table.remove(name)
        return child


@dataclass(frozen=True, slots=True)
class Rename(Edit):
    """Move a link to another name of the same directory."""

    old: str
    new: str
    overwrite: Overwrite = True
    _moved: list[Child] = field(default_factory=list, compare=False, repr=False)

    def apply(self, table: Editor, now: float, again: bool) -> Child:
        """Return what was moved; raise NoSuchChildError, ExistingChildError, BadNameError."""
        old, new = normalize(self.old), checked_name(self.new)
        child = table.child(old)
        if child is None:
            there = table.child(new) if again and self._moved else None
            if there is None or not _same(there.target, self._moved[-1].target):
                raise NoSuchChildError("no child of that name")
            return self._moved[-1]
        if old == new:
            return child
        metadata = {key: value for key, value in child.metadata.items() if key != "tahoe"}
        entry = _set(table, new, child.target, metadata, self.overwrite, now, again)
        table.put([entry], without=old)
        self._moved.append(child)
        return child


def _set(
    table: Editor,
    name: str,
    target: Target,
    metadata: Mapping[str, Any] | None,
    overwrite: Overwrite,
    now: float,
    again: bool,
) -> Entry:
    """Return the entry that makes `name` lead to `target`."""
    existing = table.child(name)
    if existing is None and overwrite is not True and table.stored(name):
        raise ExistingChildError("an entry of that name is there, but cannot be read")
    if existing is not None and not (again and _same(existing.target, target)):
        if not overwrite:
            raise ExistingChildError("a child of that name is there already")
        if overwrite == "only-files" and links.is_directory(existing.target):
            raise ExistingChildError("a directory of that name is there already")
    updated = update_metadata(existing.metadata if existing else None, metadata, now)
    if updated.get("no-write"):
        target = links.diminished(target)
    return table.entry(name, target, updated)


def _same(a: Target, b: Target) -> bool:
    return links.read_text(a) == links.read_text(b)


def _check_type(target: Target, must_be_directory: bool, must_be_file: bool) -> None:
    if links.is_unknown(target):  # may be either
        return
    if must_be_directory and not links.is_directory(target):
        raise ChildOfWrongTypeError("the child is not a directory")
    if must_be_file and links.is_directory(target):
        raise ChildOfWrongTypeError("the child is a directory")


@dataclass(slots=True)
class Outcome:
    """How one edit of a batch ended in the latest attempt."""

    child: Child | None = None
    error: TruckeeError | None = None
    applied: bool = False  # in the latest attempt or an earlier one


class Batch:
    """Edits that go into one modification, in the order in which they were asked for.

    Each keeps its own outcome: one that breaks a rule fails alone. Calling it again starts from the
    new bytes with all edits.
    """

    def __init__(self, edits: Sequence[Edit], writekey: bytes, now: float) -> None:
        """Take the edits, the directory's write key and the time that they will carry."""
        self._edits = edits
        self._writekey = writekey
        self._now = now
        self.outcomes = [Outcome() for _ in edits]
        self.entries_before = self.entries = 0  # in the directory, at the latest attempt

    def __call__(self, packed: bytes) -> bytes | None:
        """Return the changed table, or None when nothing changed; raise DirectoryFormatError."""
        table = Editor(packed, self._writekey)
        self.entries_before = table.count
        for edit, outcome in zip(self._edits, self.outcomes, strict=True):
            outcome.child = outcome.error = None
            try:
                outcome.child = edit.apply(table, self._now, outcome.applied)
                outcome.applied = True
            except TruckeeError as error:
                outcome.error = error
        self.entries = table.count
        return table.pack() if table.changed else None
