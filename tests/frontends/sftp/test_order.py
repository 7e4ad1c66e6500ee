"""Requests sent all at once give what they give one after the other."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.fakes import sftp_client as w
from tests.fakes.sftp_client import C, T, Talk, W, attrs, s
from tests.fakes.tree import Tree
from truckee.frontends.sftp.order import Starter

PATHS = ["/f", "/g", "/n", "/d", "/d/x", "/e", "/d/n"]
HANDLES = [s((n + 1).to_bytes(8, "big").hex()) for n in range(3)]

path = st.sampled_from(PATHS)
request = st.one_of(
    st.builds(lambda p: (w.STAT, s(p)), path),
    st.builds(lambda p: (w.REMOVE, s(p)), path),
    st.builds(lambda p: (w.RMDIR, s(p)), path),
    st.builds(lambda p: (w.MKDIR, s(p) + attrs()), path),
    st.builds(lambda p: (w.SETSTAT, s(p) + attrs(times=(5, 5))), path),
    st.builds(lambda p, q: (w.RENAME, s(p) + s(q)), path, path),
    st.builds(lambda p, q: (w.EXTENDED, s("posix-rename@openssh.com") + s(p) + s(q)), path, path),
    st.builds(lambda p, q: (w.EXTENDED, s("hardlink@openssh.com") + s(p) + s(q)), path, path),
    st.builds(lambda h: (w.CLOSE, h), st.sampled_from(HANDLES)),
    st.builds(lambda h: (w.EXTENDED, s("fsync@openssh.com") + h), st.sampled_from(HANDLES)),
)


def numbered():
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def contents(tree, node, prefix="") -> dict:
    found = {}
    for name, (child, _) in tree.run(node.list()).items():
        if child.get_cap().is_directory:
            found[f"{prefix}/{name}/"] = None
            found |= contents(tree, child, f"{prefix}/{name}")
        else:
            found[f"{prefix}/{name}"] = tree.run(child.download_best_version())
    return found


def play(folder, requests, *, at_once: bool):
    """Return the kinds and codes of all answers, and the tree at the end."""
    tree = Tree(folder)
    writer = tree.session()
    tree.put(writer, "/f", b"old f")
    tree.put(writer, "/g", b"old g")
    tree.run(writer.mkdir(("d",)))
    tree.put(writer, "/d/x", b"old x")
    talk = Talk(tree, random=numbered())
    for at, name in enumerate(("/f", "/n", "/d/n")):
        assert talk.handle(name, W | C | T) == HANDLES[at]
        assert talk.write(HANDLES[at], 0, b"new " + name.encode()) == w.OK
    if at_once:
        tree.client.hold()
        numbers = [talk.send(kind, body) for kind, body in requests]
        tree.clock.advance(1)
        while tree.client.held is not None:
            tree.client.release()
        answers = [talk.wait(n) for n in numbers]
    else:
        answers = [talk.ask(kind, body) for kind, body in requests]
    talk.subsystem.lost()
    talk.settle(5)
    assert len(tree.vfs.pending) == 0
    assert not len(tree.vfs.guard)
    codes = [a.code if a.kind == w.STATUS else -a.kind for a in answers]
    return codes, contents(tree, tree.root)


def compare(tmp_path_factory, requests) -> None:
    folder = tmp_path_factory.mktemp("order")
    waiting = play(folder / "one", requests, at_once=False)
    at_once = play(folder / "two", requests, at_once=True)
    assert at_once == waiting


some = st.lists(request, min_size=2, max_size=10)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=some)
def test_requests_sent_at_once_end_as_if_each_had_been_answered_first(tmp_path_factory, requests):
    compare(tmp_path_factory, requests)


@pytest.mark.long
@settings(max_examples=2500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=some)
def test_many_requests_sent_at_once_end_likewise(tmp_path_factory, requests):
    compare(tmp_path_factory, requests)


@pytest.mark.threat("F3")
def test_what_becomes_ready_begins_in_order_and_not_all_in_one_turn():
    clock, begun = Clock(), []
    starter = Starter(clock)

    def slow(number):
        begun.append(number)
        clock.rightNow += 0.005

    for number in range(6):
        starter.add(lambda number=number: slow(number))
    starter.run()
    assert begun == [0, 1]
    starter.run()
    assert begun == [0, 1], "the others have their turn first"
    clock.advance(0)
    assert begun == [0, 1, 2, 3, 4, 5]
    assert not clock.getDelayedCalls()
