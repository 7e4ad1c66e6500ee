"""Files that are being written: visible before they exist.

Knows which names are being written, by whom, and in what state; touches no grid and no disk. A
`PendingFile` is one name being written by one session: one buffer, any number of handles. It is
found in two ways: in the index of its session by path, from the moment OPEN arrives; and in the
process-wide table by (parent's storage index, name), once the parent is known. What other accounts
write is never told. The rules for each event are in docs/vfs.rst.

Life: `begin` (opening) -> `settle` (or `fail`) -> handles come and go, commits run -> `drop`. An
abandoned file is in no index any more; its handles still work, and its commits do nothing.
"""

from collections.abc import Iterator
from itertools import count

from twisted.internet.defer import Deferred, DeferredLock

from truckee.core.interfaces import DirectoryNode, ImmutableFileNode, MutableFileNode
from truckee.frontends.vfs.paths import Path, is_below
from truckee.frontends.vfs.write_buffer import WriteBuffer

Index = dict[Path, "PendingFile"]
"""What one session is writing, by path."""

_serials = count(1)


class Gate:
    """Something that has not happened yet, for any number of waiters."""

    def __init__(self) -> None:
        self._waiters: list[Deferred[None]] | None = []

    def open(self) -> None:
        """Say that it has happened; may be called again."""
        waiters, self._waiters = self._waiters or [], None
        for d in waiters:
            if not d.called:
                d.callback(None)

    async def passed(self) -> None:
        """Wait until it has happened."""
        if self._waiters is not None:
            d: Deferred[None] = Deferred()
            self._waiters.append(d)
            await d


class PendingFile:
    """One name being written by one session."""

    def __init__(self, account: str, index: Index, path: Path, buffer: WriteBuffer) -> None:
        self.serial = next(_serials)
        self.account = account
        self.index = index
        self.path = path
        self.buffer = buffer
        self.parent: DirectoryNode | None = None  # None while opening
        self.name = path[-1] if path else ""
        self.published: MutableFileNode | None = None
        """The mutable file that a commit publishes to, instead of linking a new one."""
        self.immutable_base: ImmutableFileNode | None = None
        """The file whose contents the buffer may still be."""
        self.created = False
        """Whether nothing was linked here when it was opened."""
        self.had_mtime = False
        """Whether the link that stood here when it was opened carries a time set by a client."""
        self.opened = Gate()
        self.handles = 0
        self.commits = 0
        """Commits begun and not ended."""
        self.abandoned = False
        self.mtime: int | None = None
        """The time that a client set and no commit has written yet."""
        self.mode: int | None = None
        """Likewise the mode."""
        self.last_write = 0.0
        self.lock = DeferredLock()
        """Held by a commit, and by a rename or remove of the name."""
        self._quiet: list[Deferred[None]] = []

    def __repr__(self) -> str:
        state = "abandoned" if self.abandoned else "opening" if self.opening else "open"
        return f"<PendingFile {self.serial} {state}, {self.handles} handles>"

    @property
    def opening(self) -> bool:
        """Return whether it is not yet known if this can be written at all."""
        return self.parent is None and not self.abandoned

    @property
    def shown_mtime(self) -> int:
        """Return the time that stat tells: what a client set, else that of the last write."""
        return self.mtime if self.mtime is not None else int(self.last_write)

    @property
    def closing(self) -> bool:
        """Return whether its last handle is closed and a commit still runs."""
        return not self.handles and self.commits > 0

    def commit_begins(self) -> None:
        """Count a commit."""
        self.commits += 1

    def commit_ended(self) -> None:
        """Count it off, and let those pass who waited for the last."""
        self.commits -= 1
        if not self.commits:
            waiters, self._quiet = self._quiet, []
            for d in waiters:
                if not d.called:
                    d.callback(None)

    async def quiet(self) -> None:
        """Wait until no commit runs."""
        while self.commits:
            d: Deferred[None] = Deferred()
            self._quiet.append(d)
            await d

    def storage_index(self) -> bytes | None:
        """Return the parent's."""
        return self.parent.get_storage_index() if self.parent is not None else None


class PendingTable:
    """All names being written in this process."""

    def __init__(self) -> None:
        self._places: dict[bytes, dict[str, list[PendingFile]]] = {}

    def __len__(self) -> int:
        """Return how many names are being written."""
        return sum(len(files) for names in self._places.values() for files in names.values())

    def __iter__(self) -> Iterator[PendingFile]:
        """Give all of them."""
        for names in list(self._places.values()):
            for files in list(names.values()):
                yield from list(files)

    # life

    def begin(self, account: str, index: Index, path: Path, buffer: WriteBuffer) -> PendingFile:
        """Enter a name that is being opened into its session's index."""
        file = PendingFile(account, index, path, buffer)
        index[path] = file
        return file

    def settle(self, file: PendingFile, parent: DirectoryNode) -> None:
        """Enter an opened name into the table and let those pass who waited for the opening."""
        if not file.abandoned:
            file.parent = parent
            self._enter(file)
        file.opened.open()

    def fail(self, file: PendingFile) -> None:
        """Forget a name that could not be opened."""
        self.abandon(file)
        file.buffer.close()
        file.opened.open()

    def abandon(self, file: PendingFile) -> None:
        """Take the name out of all indexes: nothing of it will be linked."""
        file.abandoned = True
        self._leave(file)
        self._unindex(file)

    def drop(self, file: PendingFile) -> None:
        """Forget a name once its last handle is closed and its last commit has ended."""
        if not file.handles and not file.commits:
            self.abandon(file)
            file.buffer.close()

    def move(self, file: PendingFile, parent: DirectoryNode, path: Path) -> None:
        """Let the handles follow a rename: their commit will link under the new name.

        Does nothing for a name that is not being written any more.
        """
        if file.abandoned:
            return
        self._leave(file)
        self._unindex(file)
        file.parent, file.name = parent, path[-1]
        file.path = path
        self._enter(file)
        file.index[path] = file

    def move_below(self, account: str, source: Path, target: Path) -> None:
        """Let the paths of names below a renamed directory follow it."""
        for file in self:
            if file.account == account and is_below(file.path, source):
                self._unindex(file)
                file.path = target + file.path[len(source) :]
                file.index[file.path] = file

    def _enter(self, file: PendingFile) -> None:
        place = file.storage_index()
        if place is not None:
            self._places.setdefault(place, {}).setdefault(file.name, []).append(file)

    def _leave(self, file: PendingFile) -> None:
        place = file.storage_index()
        if place is None:
            return
        names = self._places.get(place, {})
        files = names.get(file.name, [])
        if file in files:
            files.remove(file)
            if not files:
                del names[file.name]
            if not names:
                del self._places[place]

    @staticmethod
    def _unindex(file: PendingFile) -> None:
        if file.index.get(file.path) is file:
            del file.index[file.path]

    # questions

    def of(self, parent: DirectoryNode, name: str, account: str) -> list[PendingFile]:
        """Return what `account` writes under this name, the newest last."""
        place = parent.get_storage_index()
        if place is None:
            return []
        files = self._places.get(place, {}).get(name, ())
        return sorted((f for f in files if f.account == account), key=lambda f: f.serial)

    def newest(self, parent: DirectoryNode, name: str, account: str) -> PendingFile | None:
        """Return the newest of them."""
        files = self.of(parent, name, account)
        return files[-1] if files else None

    def below(self, directory: DirectoryNode, account: str) -> dict[str, PendingFile]:
        """Return, by name, the newest of what `account` writes in this directory."""
        place = directory.get_storage_index()
        if place is None:
            return {}
        found = {}
        for name in self._places.get(place, {}):
            if (file := self.newest(directory, name, account)) is not None:
                found[name] = file
        return found

    def is_used(self, directory: DirectoryNode) -> bool:
        """Return whether anybody writes in this directory."""
        return directory.get_storage_index() in self._places
