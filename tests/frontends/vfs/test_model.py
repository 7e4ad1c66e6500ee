"""Three sessions of two accounts in any order of calls, against a model that fits on one page."""

import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.tree import Tree
from truckee.core import errors as e

NAMES = ("p", "q", "r")
ACCOUNTS = ("alice", "alice", "bob")


@dataclass
class Pending:
    account: str
    session: int
    name: str
    data: bytearray
    serial: int
    changed: bool
    handles: int = 0
    gone: bool = False


@dataclass
class Model:
    linked: dict = field(default_factory=dict)
    pending: list = field(default_factory=list)
    serials: object = field(default_factory=itertools.count)

    def of(self, account, name):
        return [f for f in self.pending if (f.account, f.name, f.gone) == (account, name, False)]

    def mine(self, session, name):
        found = [f for f in self.of(ACCOUNTS[session], name) if f.session == session]
        return found[-1] if found else None

    def open(self, session, name, truncate, create, exclusive):
        file = self.mine(session, name)
        if file is not None:
            if exclusive:
                return e.ExistingChildError
        else:
            if exclusive:
                if name in self.linked or self.of(ACCOUNTS[session], name):
                    return e.ExistingChildError
                self.linked[name] = b""
            elif name not in self.linked and not create:
                return e.NoSuchChildError
            old = b"" if truncate else self.linked.get(name, b"")
            changed = not exclusive and (truncate or name not in self.linked)
            file = Pending(
                ACCOUNTS[session], session, name, bytearray(old), next(self.serials), changed
            )
            self.pending.append(file)
        file.handles += 1
        if truncate and file.data:
            file.data.clear()
            file.changed = True
        return file

    def close(self, file, commit):
        if commit and file.changed and not file.gone:
            self.linked[file.name] = bytes(file.data)
            file.changed = False
        file.handles -= 1
        if not file.handles:
            self.abandon(file)

    def abandon(self, file):
        file.gone = True
        if file in self.pending:
            self.pending.remove(file)

    def remove(self, session, name):
        files = self.of(ACCOUNTS[session], name)
        if name not in self.linked and not files:
            return e.NoSuchChildError
        for file in files:
            self.abandon(file)
        self.linked.pop(name, None)
        return None

    def rename(self, session, a, b, replace):
        account = ACCOUNTS[session]
        movers, victims = self.of(account, a), self.of(account, b)
        if a not in self.linked and not movers:
            return e.NoSuchChildError
        if a == b:
            return None if replace else e.ExistingChildError
        if (b in self.linked or victims) and not replace:
            return e.ExistingChildError
        for file in victims:
            self.abandon(file)
        for file in movers:
            file.name = b
        if a in self.linked:
            self.linked[b] = self.linked.pop(a)
        return None

    def sizes(self, session):
        shown = {name: len(data) for name, data in self.linked.items()}
        for file in sorted(self.pending, key=lambda f: f.serial):
            if file.account == ACCOUNTS[session]:
                shown[file.name] = len(file.data)
        return shown


who, name = st.integers(0, 2), st.sampled_from(NAMES)
step = st.one_of(
    st.tuples(st.just("open"), who, name, st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("write"), who, st.integers(0, 9), st.integers(0, 200), st.binary(max_size=9)),
    st.tuples(st.just("cut"), who, st.integers(0, 9), st.integers(0, 200)),
    st.tuples(st.just("close"), who, st.integers(0, 9), st.booleans()),
    st.tuples(st.just("remove"), who, name),
    st.tuples(st.just("rename"), who, name, name, st.booleans()),
    st.tuples(st.just("logout"), who),
)


@pytest.mark.threat("F5")
@given(st.lists(step, max_size=30))
@settings(max_examples=100)
def test_sessions_behave_as_the_model(steps):
    with tempfile.TemporaryDirectory() as folder:
        Play(Path(folder)).run(steps)


class Play:
    def __init__(self, folder):
        self.tree, self.model = Tree(folder), Model()
        self.sessions = [self.tree.session(account) for account in ACCOUNTS]
        self.handles = [[], [], []]

    def run(self, steps):
        for kind, session, *rest in steps:
            getattr(self, kind)(session, *rest)
            self.check()
        for session in range(3):
            self.logout(session)
        self.check()
        assert self.tree.vfs.spool.used == 0
        assert len(self.tree.vfs.pending) == 0

    def check(self):
        contents = {
            name: self.tree.run(node.download_best_version())
            for name, (node, _) in self.tree.run(self.tree.root.list()).items()
        }
        assert contents == self.model.linked
        for i, session in enumerate(self.sessions):
            found = {name: a.size for name, a in self.tree.names(session).items()}
            assert found == self.model.sizes(i)

    def open(self, session, name, truncate, create, exclusive):
        expected = self.model.open(session, name, truncate, create, exclusive)
        opening = self.sessions[session].open_write(
            (name,), truncate=truncate, create=create, exclusive=exclusive
        )
        if isinstance(expected, Pending):
            self.handles[session].append((self.tree.run(opening), expected))
        else:
            assert self.tree.failure(opening) is expected

    def pick(self, session, number):
        mine = self.handles[session]
        return mine[number % len(mine)] if mine else None

    def write(self, session, number, offset, data):
        if (pair := self.pick(session, number)) is None or not data:
            return
        handle, file = pair
        self.tree.run(handle.write(offset, data))
        file.data.extend(bytes(max(0, offset - len(file.data))))
        file.data[offset : offset + len(data)] = data
        file.changed = True
        assert self.tree.run(handle.read(0, 1000)) == file.data

    def cut(self, session, number, size):
        if (pair := self.pick(session, number)) is None:
            return
        handle, file = pair
        self.tree.run(handle.truncate(size))
        if size != len(file.data):
            file.changed = True
        file.data.extend(bytes(max(0, size - len(file.data))))
        del file.data[size:]

    def close(self, session, number, commit):
        if (pair := self.pick(session, number)) is None:
            return
        handle, file = pair
        self.handles[session].remove(pair)
        if commit:
            self.tree.run(handle.commit())
        else:
            handle.abandon()
        self.model.close(file, commit)

    def remove(self, session, name):
        expected = self.model.remove(session, name)
        assert self.tree.failure(self.sessions[session].remove((name,))) is expected

    def rename(self, session, a, b, replace):
        expected = self.model.rename(session, a, b, replace)
        rename = self.sessions[session].rename((a,), (b,), replace=replace)
        assert self.tree.failure(rename) is expected

    def logout(self, session):
        self.tree.run(self.sessions[session].logout())
        for _, file in self.handles[session]:
            self.model.close(file, commit=False)
        self.handles[session].clear()
        self.sessions[session] = self.tree.session(ACCOUNTS[session])
