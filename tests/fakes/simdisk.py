"""A disk in memory that can lose its power, fail calls, and tell what may be left of it.

Implements truckee.core.storage.files.Files. What was written is seen at once; it is durable after
fsync (a file's bytes, a folder's names) or syncfs (everything). After a power cut any part of the
rest may be there: of bytes, pieces of 512; of names, any choice, a rename wholly or not at all.
"""

import errno
import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

PIECE = 512
MAX_REMAINDERS = 64


@dataclass
class Stat:
    st_mode: int
    st_size: int
    st_nlink: int
    st_dev: int
    st_ino: int
    st_mtime_ns: int = 0


@dataclass(eq=False)
class Inode:
    number: int
    folder: bool
    mode: int
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list = field(default_factory=list)  # (offset, bytes)
    names: dict = field(default_factory=dict)
    links: int = 0


@dataclass(eq=False)
class NameOp:
    """Entries that change together: (folder, name, inode or None)."""

    entries: list


def error(code):
    return OSError(code, os.strerror(code))


class SimDisk:
    """`observe` is called before every call that changes something; `fail` may raise instead."""

    can_syncfs = True

    def __init__(self):
        self._count = 0
        self.root = self._inode(True, 0o700)
        self.root.links = 1
        self._durable_names = {self.root: {}}
        self._pending_names = []
        self._open = {}
        self._next_fd = 1000
        self.free_bytes = 1 << 40
        self.short_writes = False
        self.calls = []
        self.observe = lambda: None
        self.fail = lambda name: None

    # the interface

    def open(self, path, flags, mode=0o600):
        self._call("open")
        folder, name = self._parent(path)
        inode = folder.names.get(name) if name else folder
        if flags & os.O_CREAT:
            if inode is not None:
                raise error(errno.EEXIST)
            self.observe()
            inode = self._inode(False, mode)
            self._change([(folder, name, inode)])
        if inode is None:
            raise error(errno.ENOENT)
        if flags & os.O_DIRECTORY and not inode.folder:
            raise error(errno.ENOTDIR)
        if inode.folder and flags & (os.O_RDWR | os.O_WRONLY):
            raise error(errno.EISDIR)
        self._next_fd += 1
        self._open[self._next_fd] = inode
        return self._next_fd

    def close(self, fd):
        del self._open[fd]

    @property
    def open_count(self):
        return len(self._open)

    def pread(self, fd, length, offset):
        self._call("pread")
        return bytes(self._open[fd].data[offset : offset + length])

    def pwrite(self, fd, data, offset):
        self._call("pwrite")
        self.observe()
        data = bytes(data)
        if self.short_writes:
            data = data[:100]
        self._write(self._open[fd], data, offset)
        return len(data)

    def copy(self, source, target, length):
        self._call("copy")
        self.observe()
        self._write(self._open[target], bytes(self._open[source].data[:length]), 0)

    def fstat(self, fd):
        self._call("fstat")
        return self._stat(self._open[fd])

    def stat(self, path):
        self._call("stat")
        return self._stat(self._find(path))

    def fsync(self, fd):
        self._call("fsync")
        self.observe()
        inode = self._open[fd]
        self._harden(inode)
        if inode.folder:
            for op in list(self._pending_names):
                if any(folder is inode for folder, _, _ in op.entries):
                    self._pending_names.remove(op)
                    self._apply(self._durable_names, op)

    def syncfs(self, fd):
        self._call("syncfs")
        self.observe()
        self._open[fd]
        self.harden_all()

    def start_writeback(self, fd, offset, length):
        pass

    def mkdir(self, path, mode=0o700):
        self._call("mkdir")
        folder, name = self._parent(path)
        if name in folder.names:
            raise error(errno.EEXIST)
        self.observe()
        self._change([(folder, name, self._inode(True, mode))])

    def rmdir(self, path):
        self._call("rmdir")
        folder, name = self._parent(path)
        if self._find(path).names:
            raise error(errno.ENOTEMPTY)
        self.observe()
        self._change([(folder, name, None)])

    def unlink(self, path):
        self._call("unlink")
        folder, name = self._parent(path)
        if self._find(path).folder:
            raise error(errno.EISDIR)
        self.observe()
        self._change([(folder, name, None)])

    def link(self, source, target):
        self._call("link")
        inode = self._find(source)
        folder, name = self._parent(target)
        if name in folder.names:
            raise error(errno.EEXIST)
        self.observe()
        self._change([(folder, name, inode)])

    def rename(self, source, target):
        self._call("rename")
        inode = self._find(source)
        old, old_name = self._parent(source)
        new, new_name = self._parent(target)
        self.observe()
        self._change([(old, old_name, None), (new, new_name, inode)])

    def listdir(self, path):
        self._call("listdir")
        inode = self._find(path)
        if not inode.folder:
            raise error(errno.ENOTDIR)
        return list(inode.names)

    def free(self, path):
        self._call("free")
        self._find(path)
        return self.free_bytes

    # power cuts

    def harden_all(self):
        for inode in [*self._durable_names, *self._reachable(self.root)]:
            self._harden(inode)
        for op in self._pending_names:
            for _, _, inode in op.entries:
                if inode is not None:
                    self._harden(inode)
            self._apply(self._durable_names, op)
        self._pending_names.clear()

    def remainders(self, seed=0) -> Iterator["SimDisk"]:
        """Yield what may be left after a power cut now, at most MAX_REMAINDERS of it."""
        units = [*self._pending_names]
        for inode in self._unsynced():
            pieces = list(_pieces(inode))
            if len(pieces) > 8:
                third = len(pieces) // 3
                pieces = [pieces[:third], pieces[third : 2 * third], pieces[2 * third :]]
            else:
                pieces = [[piece] for piece in pieces]
            units += [(inode, each) for each in pieces]
        names = frozenset(i for i, unit in enumerate(units) if isinstance(unit, NameOp))
        everything = frozenset(range(len(units)))
        choices = [frozenset(), everything, names, everything - names]
        choices += [everything - {i} for i in everything] + [frozenset({i}) for i in everything]
        choices += [names - {i} for i in names]
        rng = random.Random(seed)
        for _ in range(MAX_REMAINDERS):
            choices.append(frozenset(i for i in everything if rng.random() < 0.5))
        seen = set()
        for choice in choices:
            if choice not in seen and len(seen) < MAX_REMAINDERS:
                seen.add(choice)
                yield self._after(units, choice)

    def _after(self, units, choice):
        """Build the disk on which exactly the chosen units were made durable."""
        names = {folder: dict(held) for folder, held in self._durable_names.items()}
        chosen = [units[i] for i in sorted(choice)]
        for unit in chosen:
            if isinstance(unit, NameOp):
                self._apply(names, unit)
        disk = SimDisk()
        disk.free_bytes = self.free_bytes
        copies = {self.root: disk.root}

        def copy(inode):
            if inode in copies:
                return copies[inode]
            new = copies[inode] = disk._inode(inode.folder, inode.mode)
            data = bytearray(inode.durable)
            for unit in chosen:
                if not isinstance(unit, NameOp) and unit[0] is inode:
                    for offset, piece in unit[1]:
                        data.extend(bytes(max(0, offset - len(data))))
                        data[offset : offset + len(piece)] = piece
            new.data, new.durable = data, bytes(data)
            return new

        def walk(old, new):
            for name, child in names.get(old, {}).items():
                new.names[name] = made = copy(child)
                made.links += 1
                if child.folder:
                    walk(child, made)

        walk(self.root, disk.root)
        disk._durable_names = {
            inode: dict(inode.names) for inode in disk._reachable(disk.root) if inode.folder
        }
        return disk

    # inside

    def _call(self, name):
        self.calls.append(name)
        self.fail(name)

    def _inode(self, folder, mode):
        self._count += 1
        return Inode(self._count, folder, mode)

    def _stat(self, inode):
        kind = stat.S_IFDIR if inode.folder else stat.S_IFREG
        return Stat(kind | inode.mode, len(inode.data), inode.links, 1, inode.number)

    def _parent(self, path):
        parts = path.strip("/").split("/")
        folder = self.root
        for part in parts[:-1]:
            folder = folder.names.get(part)
            if folder is None:
                raise error(errno.ENOENT)
            if not folder.folder:
                raise error(errno.ENOTDIR)
        return folder, parts[-1]

    def _find(self, path):
        folder, name = self._parent(path)
        inode = folder.names.get(name) if name else folder
        if inode is None:
            raise error(errno.ENOENT)
        return inode

    def _change(self, entries):
        for folder, name, inode in entries:
            old = folder.names.pop(name, None)
            if old is not None:
                old.links -= 1
            if inode is not None:
                folder.names[name] = inode
                inode.links += 1
        self._pending_names.append(NameOp(entries))

    @staticmethod
    def _apply(names, op):
        for folder, name, inode in op.entries:
            held = names.setdefault(folder, {})
            held.pop(name, None)
            if inode is not None:
                held[name] = inode
                if inode.folder:
                    names.setdefault(inode, {})

    def _write(self, inode, data, offset):
        inode.data.extend(bytes(max(0, offset - len(inode.data))))
        inode.data[offset : offset + len(data)] = data
        inode.pending.append((offset, data))

    @staticmethod
    def _harden(inode):
        inode.durable = bytes(inode.data)
        inode.pending.clear()

    def _reachable(self, inode):
        yield inode
        for child in inode.names.values():
            yield from self._reachable(child)

    def _unsynced(self):
        found = {}
        for inode in self._reachable(self.root):
            found[inode.number] = inode
        for held in self._durable_names.values():
            for inode in held.values():
                found[inode.number] = inode
        for op in self._pending_names:
            for _, _, inode in op.entries:
                if inode is not None:
                    found[inode.number] = inode
        return [inode for _, inode in sorted(found.items()) if inode.pending]


def _pieces(inode):
    """Cut what was not synced at the borders of 512 bytes."""
    for offset, data in inode.pending:
        at = 0
        while at < len(data):
            size = PIECE - (offset + at) % PIECE
            yield offset + at, data[at : at + size]
            at += size
