"""Files that are being written, as an SFTP client meets them; and what is left of them."""

import itertools

import pytest

from tests.fakes import sftp_client as w
from tests.fakes.sftp_client import A, C, R, T, Talk, W, X, attrs, packet, s, u32, u64
from tests.fakes.tree import Tree
from truckee.core.storage.faults import Kind, Rule


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def talk(tree):
    return Talk(tree)


def linked(tree):
    """Return what anybody can see."""
    return {
        name: tree.run(node.download_best_version())
        for name, (node, _) in tree.run(tree.root.list()).items()
    }


def writing(talk, path, data, flags=W | C | T):
    handle = talk.handle(path, flags)
    assert talk.write(handle, 0, data) == w.OK
    return handle


def slowly(tree, seconds=2.0):
    """Let the next call to a server take a while."""
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=seconds))


# what is there before it is there


def test_a_stat_by_path_right_behind_an_open_sees_the_file(tree, talk):
    """sshfs opens W|C|X and stats at once."""
    slowly(tree)
    opening = talk.send(w.OPEN, s("/f") + u32(W | C | X) + attrs(mode=0o100644))
    stat = talk.send(w.STAT, s("/f"))
    assert not talk.has(opening)
    assert talk.wait(stat).attrs.size == 0
    assert talk.wait(opening).kind == w.HANDLE


def test_renaming_and_removing_do_not_wait_for_the_open_to_be_answered(tree, talk):
    slowly(tree)
    opening = talk.send(w.OPEN, s("/f") + u32(W | C | T) + attrs())
    renaming = talk.send(w.RENAME, s("/f") + s("/g"))
    handle = s(talk.wait(opening).handle)
    assert talk.wait(renaming).code == w.OK
    assert talk.write(handle, 0, b"moved") == w.OK
    assert talk.close(handle) == w.OK
    assert linked(tree) == {"g": b"moved"}


def test_opening_what_is_being_closed_waits_for_the_commit(tree, talk):
    handle = writing(talk, "/f", b"new")
    tree.client.hold()
    closing = talk.send(w.CLOSE, handle)
    opening = talk.send(w.OPEN, s("/f") + u32(R) + attrs())
    stat = talk.ask(w.STAT, s("/f"))
    assert stat.attrs.size == 3
    assert not talk.has(opening)
    tree.client.release()
    assert talk.wait(closing).code == w.OK
    assert talk.read(s(talk.wait(opening).handle), 0, 10) == b"new"


def test_a_second_handle_works_on_the_same_contents(tree, talk):
    one = writing(talk, "/f", b"one")
    two = talk.handle("/f", R | W)
    assert talk.read(two, 0, 10) == b"one"
    assert talk.write(two, 3, b" two") == w.OK
    assert talk.ask(w.FSTAT, one).attrs.size == 7
    assert talk.close(one) == w.OK
    assert linked(tree) == {"f": b"one two"}
    assert talk.write(two, 7, b"!") == w.OK
    assert talk.close(two) == w.OK
    assert linked(tree) == {"f": b"one two!"}


def test_two_connections_of_one_account_write_their_own_and_the_last_close_counts(tree):
    one, two = Talk(tree), Talk(tree)
    first, second = writing(one, "/f", b"first"), writing(two, "/f", b"second")
    assert two.close(second) == w.OK
    assert linked(tree) == {"f": b"second"}
    assert one.close(first) == w.OK
    assert linked(tree) == {"f": b"first"}


def test_other_accounts_see_only_what_is_linked(tree, talk):
    bob = Talk(tree, tree.session("bob", protocol="sftp"))
    writing(talk, "/f", b"secret")
    assert bob.status(w.STAT, "/f") == w.NO_SUCH_FILE
    assert bob.names() == {}
    assert bob.open("/f", R).code == w.NO_SUCH_FILE


def test_rename_over_a_file_being_written_abandons_it(tree, talk):
    talk.put("/x", b"x")
    handle = writing(talk, "/p", b"pending")
    assert talk.status(w.RENAME, "/x", "/p") == w.FAILURE
    body = s("posix-rename@openssh.com") + s("/x") + s("/p")
    assert talk.ask(w.EXTENDED, body).code == w.OK
    assert talk.write(handle, 0, b"still works") == w.OK
    assert talk.close(handle) == w.OK
    assert linked(tree) == {"p": b"x"}


def test_a_removed_file_can_be_written_and_closed_and_stays_away(tree, talk):
    talk.put("/p", b"old")
    handle = writing(talk, "/p", b"new")
    assert talk.status(w.REMOVE, "/p") == w.OK
    assert talk.write(handle, 3, b"er") == w.OK
    assert talk.close(handle) == w.OK
    assert linked(tree) == {}


def test_an_editors_save_leaves_the_new_file_and_no_temporary_one(tree, talk):
    """Write a temporary file, fsync it, rename it over the old one."""
    talk.put("/doc", b"old")
    handle = writing(talk, "/doc.tmp", b"new contents")
    assert talk.extended("fsync@openssh.com", handle).code == w.OK
    closing = talk.send(w.CLOSE, handle)
    renaming = talk.send(w.EXTENDED, s("posix-rename@openssh.com") + s("/doc.tmp") + s("/doc"))
    assert talk.wait(closing).code == w.OK
    assert talk.wait(renaming).code == w.OK
    assert linked(tree) == {"doc": b"new contents"}


# F8: only an explicit CLOSE counts

CHUNK = 40_000
NEW = bytes(range(256)) * 640  # 160 KiB: beyond what is kept in memory


def numbered():
    """Return a source of handles that can be known beforehand."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def upload(path: str, flags: int) -> list[bytes]:
    """Return the packets of an upload, as sftp sends them."""
    handle = s((1).to_bytes(8, "big").hex())
    sent = [packet(w.OPEN, u32(1) + s(path) + u32(flags) + attrs(mode=0o100644))]
    for number, at in enumerate(range(0, len(NEW), CHUNK), 2):
        body = handle + u64(at) + s(NEW[at : at + CHUNK])
        sent.append(packet(w.WRITE, u32(number) + body))
    sent.append(packet(w.FSETSTAT, u32(100) + handle + attrs(times=(1, 2))))
    sent.append(packet(w.CLOSE, u32(101) + handle))
    return sent


STEPS = len(upload("/f", W | C | T))


@pytest.mark.threat("F8")
@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("flags", [W | C | T, W | C, W | C | A, R | W | C])
@pytest.mark.parametrize("sent", range(STEPS + 1))
@pytest.mark.parametrize("old", [None, b"old contents"])
def test_a_channel_lost_after_any_packet_of_an_upload_leaves_the_old_file(
    tmp_path, sent, flags, old, pipelined
):
    tree = Tree(tmp_path)
    if old is not None:
        tree.put(tree.session(), "/f", old)
    talk = Talk(tree, random=numbered())
    steps = upload("/f", flags)
    for step in steps[:sent]:
        talk.feed(step)
        if not pipelined:
            talk.settle(2)
    talk.feed((steps + [b""])[sent][:-1])  # and the next one comes in part
    talk.subsystem.lost()
    tree.run(talk.session.logout())
    talk.settle(10)
    before = {} if old is None else {"f": old}
    whole = NEW if not flags & A else (old or b"") + NEW
    if old is not None and not flags & (T | A):
        whole = NEW + old[len(NEW) :]
    if sent < STEPS:
        assert linked(tree) == before
    else:
        assert linked(tree) in (before, {"f": whole})
        if not pipelined:
            assert linked(tree) == {"f": whole}
    assert len(tree.vfs.pending) == 0
    assert tree.vfs.spool.used == 0
    assert not talk.subsystem.busy


@pytest.mark.threat("F8")
@pytest.mark.parametrize("lost", ["lost", "ended"])
def test_a_commit_that_has_begun_when_the_channel_is_lost_runs_to_its_end(tree, talk, lost):
    handle = writing(talk, "/f", b"whole")
    tree.client.hold()
    talk.send(w.CLOSE, handle)
    getattr(talk.subsystem, lost)()
    tree.run(talk.session.logout())
    assert linked(tree) == {}
    tree.client.release()
    talk.settle(5)
    assert linked(tree) == {"f": b"whole"}
    assert len(tree.vfs.pending) == 0


@pytest.mark.threat("F8")
def test_a_close_that_waits_when_the_channel_is_lost_commits_nothing(tree, talk):
    talk.put("/f", b"old")
    handle = writing(talk, "/f", b"one")
    tree.client.hold()
    talk.send(w.EXTENDED, s("fsync@openssh.com") + handle)
    talk.send(w.WRITE, handle + u64(3) + s(b" two"))
    talk.send(w.CLOSE, handle)
    talk.subsystem.lost()
    tree.client.release()
    talk.settle(10)
    assert linked(tree) == {"f": b"one"}, "the fsync had begun, the CLOSE had not"
    assert len(tree.vfs.pending) == 0


def test_one_lost_channel_leaves_another_of_the_same_login_alone(tree, talk):
    other = Talk(tree, talk.session)
    mine, theirs = writing(talk, "/mine", b"1"), writing(other, "/theirs", b"2")
    talk.subsystem.lost()
    assert other.close(theirs) == w.OK
    assert linked(tree) == {"theirs": b"2"}
    _ = mine


def test_reads_under_way_when_the_channel_is_lost_are_stopped(tree, talk):
    tree.put(tree.session(), "/f", bytes(2**20))
    handle = talk.handle("/f", R)
    slowly(tree, 5.0)
    for at in range(4):
        talk.send(w.READ, handle + u64(at * 32768) + u32(32768))
    assert talk.subsystem.busy
    talk.subsystem.lost()
    assert not talk.subsystem.busy
    talk.settle(30)


# answers in order


def test_writes_that_had_to_wait_are_answered_in_their_order(tree, talk):
    """scp cuts a file to what was acknowledged in one stretch, should answers come otherwise."""
    handle = writing(talk, "/f", b"x")
    tree.client.hold()
    first = talk.send(w.EXTENDED, s("fsync@openssh.com") + handle)
    numbers = [talk.send(w.WRITE, handle + u64(i * 2000) + s(bytes(2000))) for i in range(120)]
    closing = talk.send(w.CLOSE, handle)
    tree.client.release()
    talk.settle(10)
    assert list(talk.answers) == [first, *numbers, closing]


def test_requests_that_waited_for_each_other_are_answered_in_their_order(tree, talk):
    slowly(tree)
    numbers = [talk.send(w.MKDIR, s("/" + "/".join("d" * n)) + attrs()) for n in range(1, 5)]
    for n in range(60):
        numbers.append(talk.send(w.SETSTAT, s("/d/d/d/d") + attrs(times=(n, n))))
    talk.settle(200)
    assert list(talk.answers) == numbers
    assert {a.code for a in talk.answers.values()} == {w.OK}


@pytest.mark.threat("F8")
def test_a_channel_lost_while_an_answer_is_sent_lets_nothing_begin(tree, talk):
    handle = writing(talk, "/f", b"one")
    tree.client.hold()
    talk.send(w.EXTENDED, s("fsync@openssh.com") + handle)
    talk.send(w.WRITE, handle + u64(3) + s(b" two"))
    talk.send(w.CLOSE, handle)
    talk.channel.write = lambda pieces: talk.subsystem.lost()
    tree.client.release()
    talk.settle(10)
    assert linked(tree) == {"f": b"one"}
    assert len(tree.vfs.pending) == 0
    assert not talk.subsystem.busy
