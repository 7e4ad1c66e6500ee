"""Directories against a model: any sequence of edits, by two clients, with real worker threads."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.fakes.memory_grid import MemoryGrid
from truckee.core import errors
from truckee.core.cpu import PoolCpu
from truckee.core.directory import DirectoryNode
from truckee.core.formats.caps import ChkReadCap, DirectoryCap, LitCap


def uri(i: int) -> bytes:
    return ChkReadCap(i.to_bytes(16, "big"), bytes(32), 3, 10, 1000 + i).text.encode()


CHILDREN = [uri(1), uri(2), b"URI:LIT:me", DirectoryCap(LitCap(b"")).text.encode()]
_names = st.sampled_from(["a", "b", "c", "\u00e9", "e\u0301"])
_overwrites = st.sampled_from([True, False, "only-files"])
_edits = st.one_of(
    st.tuples(st.just("set"), _names, st.sampled_from(CHILDREN), _overwrites),
    st.tuples(st.just("delete"), _names, st.booleans()),
    st.tuples(st.just("move"), _names, _names, _overwrites),
    st.tuples(st.just("metadata"), _names, st.integers()),
)


class Model:
    """What a directory holds, by the rules in a few lines: name -> (capability, value of `k`)."""

    def __init__(self) -> None:
        self.children: dict[str, tuple[bytes, int | None]] = {}

    def _may_set(self, name: str, overwrite: Any) -> None:
        old = self.children.get(name)
        if old is not None and (
            not overwrite or (overwrite == "only-files" and old[0].startswith(b"URI:DIR2"))
        ):
            raise errors.ExistingChildError

    def _need(self, name: str) -> tuple[bytes, int | None]:
        if name not in self.children:
            raise errors.NoSuchChildError
        return self.children[name]

    def apply(self, edit: tuple[Any, ...]) -> None:
        kind, name, *rest = edit
        name = name.replace("e\u0301", "\u00e9")
        if kind == "set":
            self._may_set(name, rest[1])
            self.children[name] = (rest[0], self.children.get(name, (b"", None))[1])
        elif kind == "delete":
            if rest[0]:
                self._need(name)
            self.children.pop(name, None)
        elif kind == "metadata":
            self.children[name] = (self._need(name)[0], rest[0])
        else:
            new = rest[0].replace("e\u0301", "\u00e9")
            child = self._need(name)
            if new != name:
                self._may_set(new, rest[1])
                del self.children[name]
                self.children[new] = child


def perform(node: DirectoryNode, edit: tuple[Any, ...]) -> Any:
    kind, name, *rest = edit
    if kind == "set":
        return node.set_uri(name, None, rest[0], None, rest[1])
    if kind == "delete":
        return node.delete(name, must_exist=rest[0])
    if kind == "metadata":
        return node.set_metadata_for(name, {"k": rest[0]})
    return node.move_child_to(name, node, rest[0], rest[1])


def outcome(work: Any) -> str:
    try:
        work()
    except errors.TruckeeError as error:
        return type(error).__name__
    return "done"


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), _edits), max_size=12))
def test_any_sequence_of_edits_by_two_processes_does_what_the_rules_say(
    edits: list[tuple[bool, tuple[Any, ...]]],
) -> None:
    grid, model = MemoryGrid(), Model()
    first = grid.run(grid.client(ttl=0.0).create_new_mutable_directory())
    second = grid.client(ttl=0.0).create_node_from_uri(first.get_uri())
    assert isinstance(second, DirectoryNode)
    for by_second, edit in edits:
        node = second if by_second else first
        expected = outcome(lambda edit=edit: model.apply(edit))
        assert outcome(lambda node=node, edit=edit: grid.run(perform(node, edit))) == expected
    for node in (first, second):
        listing = grid.run(node.list())
        found = {n: (c.get_uri(), m.get("k")) for n, (c, m) in listing.items()}
        assert found == model.children


@settings(max_examples=40)
@given(st.lists(_edits, max_size=12))
def test_edits_asked_for_at_once_do_the_same_as_one_after_the_other(
    edits: list[tuple[Any, ...]],
) -> None:
    grid, model = MemoryGrid(), Model()
    root = grid.run(grid.client().create_new_mutable_directory())
    gate: list[Deferred[None]] = []

    async def hold() -> None:
        d: Deferred[None] = Deferred()
        gate.append(d)
        await d

    for server in grid.servers:
        server.before_write = hold
    grid.start(root.set_uri("first", CHILDREN[0]))
    answers: list[Any] = [None] * len(edits)

    async def ask(i: int) -> None:
        try:
            await perform(root, edits[i])
        except errors.TruckeeError as error:
            answers[i] = type(error).__name__
        else:
            answers[i] = "done"

    work = [grid.start(ask(i)) for i in range(len(edits))]
    for server in grid.servers:
        server.before_write = None
    for d in gate:
        d.callback(None)
    grid.run(gatherResults(work))
    model.apply(("set", "first", CHILDREN[0], True))
    # a move onto itself only looks, and may look before or after the others
    redundant = [
        e[0] == "move" and e[1].replace("e\u0301", "\u00e9") == e[2].replace("e\u0301", "\u00e9")
        for e in edits
    ]
    for i, edit in enumerate(edits):
        expected = outcome(lambda edit=edit: model.apply(edit))
        assert redundant[i] or answers[i] == expected
    listing = grid.run(root.list())
    assert {n: c.get_uri() for n, (c, _) in listing.items()} == {
        n: cap for n, (cap, _) in model.children.items()
    }


class ThreadTests(TestCase):
    """A large directory with the processor pool of a node."""

    async def test_large_directories_are_edited_and_listed_while_threads_take_them_apart(
        self,
    ) -> None:
        from twisted.internet import reactor  # noqa: TID251 - the real one, for its threads

        cpu = PoolCpu(reactor, 2, "test")  # type: ignore[arg-type]
        cpu.start()
        self.addCleanup(cpu.stop)
        grid = MemoryGrid(cpu=cpu, clock=reactor)
        client = grid.client()
        children = {f"f{i}": (client.create_node_from_uri(uri(i)), {}) for i in range(1500)}
        root = await client.create_new_mutable_directory(children)
        edits = [Deferred.fromCoroutine(root.set_uri(f"new{i}", uri(i))) for i in range(50)]
        lists = [Deferred.fromCoroutine(root.list()) for _ in range(20)]
        await gatherResults(edits)
        for d in lists:
            assert len(await d) >= 1500
        assert len(await root.list()) == 1550
