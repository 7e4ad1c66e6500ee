"""Files that are being written: every row of the table in docs/vfs.rst."""

import pytest
from twisted.internet.defer import Deferred

from tests.fakes.tree import Sink, Tree
from truckee.core import errors as e
from truckee.core.storage.faults import Kind, Rule

P, Q, X = ("p",), ("q",), ("x",)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def linked(tree):
    """Return what anybody can see."""
    return {
        name: tree.run(node.download_best_version())
        for name, (node, _) in tree.run(tree.root.list()).items()
    }


def writing(tree, session, data, path="/p", **how):
    handle = tree.open(session, path, **how)
    tree.run(handle.write(0, data))
    return handle


def closing(tree, handle):
    """Start a commit that stays under way until tree.client.release()."""
    tree.client.hold()
    d = tree.start(handle.commit())
    assert not d.called
    return d


def test_the_account_sees_what_it_writes(tree):
    one, two = tree.session(), tree.session()
    handle = writing(tree, one, b"12345")
    for session in (one, two):
        assert tree.stat(session, "/p").size == 5
        assert tree.names(session)["p"].size == 5
        assert tree.stat(session, "/p").mtime == int(tree.clock.seconds())
    handle.abandon()
    assert tree.failure(one.stat(P)) is e.NoSuchChildError


def test_the_newest_handle_is_the_one_that_is_told_of(tree):
    one, two = tree.session(), tree.session()
    writing(tree, one, b"1")
    writing(tree, two, b"22")
    assert tree.stat(tree.session(), "/p").size == 2
    assert tree.stat(one, "/p").size == 1
    assert tree.names(one)["p"].size == 2


def test_a_linked_file_shows_its_size_as_it_is_being_written(tree):
    session = tree.session()
    tree.put(session, "/p", b"old")
    writing(tree, session, b"longer", truncate=True)
    assert tree.names(session)["p"].size == 6
    assert linked(tree) == {"p": b"old"}


def test_other_accounts_see_only_what_is_linked(tree):
    bob = tree.session("bob")
    writing(tree, tree.session(), b"1")
    assert tree.failure(bob.stat(P)) is e.NoSuchChildError
    assert tree.names(bob) == {}
    assert tree.failure(bob.open_read(P)) is e.NoSuchChildError


def test_a_stat_waits_for_the_opening_that_came_before_it(tree):
    session = tree.session()
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=2.0))
    opening = tree.start(session.open_write(P, truncate=True, create=True))
    stat = tree.start(session.stat(P))
    again = tree.start(session.open_write(P, truncate=False, create=False))
    assert not opening.called
    assert not stat.called
    tree.clock.advance(3)
    assert opening.result.file is again.result.file
    assert stat.result.size == 0


def test_an_opening_that_fails_leaves_nothing_to_those_who_wait(tree):
    session = tree.session()
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=2.0))
    opening = tree.start(session.open_write(P, truncate=True, create=False))
    stat = tree.start(session.stat(P))
    tree.clock.advance(3)
    assert opening.result.check(e.NoSuchChildError)
    assert stat.result.check(e.NoSuchChildError)
    opening.addErrback(lambda _: None)
    stat.addErrback(lambda _: None)
    assert len(tree.vfs.pending) == 0


# opening to read


def test_reading_what_the_session_writes_reads_the_same_buffer(tree):
    session = tree.session()
    handle = writing(tree, session, b"first")
    reader = tree.run(session.open_read(P))
    assert tree.run(reader.read(0, 100)) == b"first"
    tree.run(handle.write(5, b" second"))
    assert tree.run(reader.read(0, 100)) == b"first second"
    assert reader.size == 12
    sink = Sink(pause_every=1)
    d = tree.start(reader.send_to(sink, 6))
    sink.resume()
    assert d.called
    assert sink.data == b"second"
    tree.run(handle.commit())
    assert tree.run(reader.read(0, 5)) == b"first"  # POSIX: still open
    reader.close()
    assert tree.vfs.spool.used == 0
    assert tree.failure(reader.read(0, 1)) is e.OperationCancelledError


def test_reading_after_an_unanswered_close_waits_for_that_commit(tree):
    session = tree.session()
    d = closing(tree, writing(tree, session, b"data"))
    reading = tree.start(session.open_read(P))
    assert not reading.called
    tree.client.release()
    assert d.called
    assert tree.run(reading.result.read(0, 10)) == b"data"
    reading.result.close()


def test_another_session_reads_the_linked_version(tree):
    one, two = tree.session(), tree.session()
    tree.put(one, "/p", b"linked")
    writing(tree, one, b"pending", truncate=True)
    assert tree.get(two, "/p") == b"linked"


# opening to write


def test_two_handles_of_one_session_share_a_buffer(tree):
    session = tree.session()
    one = writing(tree, session, b"aaaa")
    two = writing(tree, session, b"bb")
    tree.run(two.commit())
    assert linked(tree) == {"p": b"bbaa"}
    tree.run(one.write(2, b"cc"))
    tree.run(one.commit())
    assert linked(tree) == {"p": b"bbcc"}
    assert tree.vfs.spool.used == 0


def test_of_two_sessions_the_last_commit_wins(tree):
    one, two = tree.session(), tree.session()
    a, b = writing(tree, one, b"one"), writing(tree, two, b"two")
    tree.run(b.commit())
    assert linked(tree) == {"p": b"two"}
    tree.run(a.commit())
    assert linked(tree) == {"p": b"one"}


def test_writing_again_during_a_commit_waits_and_is_committed_by_its_own_close(tree):
    session = tree.session()
    d = closing(tree, writing(tree, session, b"first"))
    again = tree.run(session.open_write(P, truncate=False, create=False))
    late = tree.start(again.write(0, b"FIRST"))
    assert not late.called
    tree.client.release()
    assert d.called
    assert late.called
    assert linked(tree) == {"p": b"first"}
    tree.run(again.commit())
    assert linked(tree) == {"p": b"FIRST"}


# rename


def test_handles_follow_a_rename(tree):
    session = tree.session()
    handle = writing(tree, session, b"data")
    tree.run(session.rename(P, Q, replace=False))
    assert tree.failure(session.stat(P)) is e.NoSuchChildError
    assert tree.stat(session, "/q").size == 4
    tree.run(handle.write(4, b"+"))
    tree.run(handle.commit())
    assert linked(tree) == {"q": b"data+"}


def test_handles_and_link_follow_a_rename_into_another_directory(tree):
    session = tree.session()
    tree.put(session, "/p", b"old")
    tree.run(session.mkdir(("d",)))
    handle = writing(tree, session, b"new", truncate=True)
    tree.run(session.rename(P, ("d", "q"), replace=False))
    assert tree.get(tree.session(), "/d/q") == b"old"
    tree.run(handle.commit())
    assert tree.get(session, "/d/q") == b"new"
    assert sorted(tree.names(session)) == ["d"]


def test_handles_below_a_renamed_directory_follow_it(tree):
    session = tree.session()
    tree.run(session.mkdir(("d",)))
    handle = writing(tree, session, b"data", "/d/p")
    tree.run(session.rename(("d",), ("e",), replace=False))
    assert tree.stat(session, "/e/p").size == 4
    assert tree.failure(session.stat(("d", "p"))) is e.NoSuchChildError
    tree.run(handle.commit())
    assert tree.get(session, "/e/p") == b"data"


def test_a_directory_that_is_mistaken_for_a_file_stays_a_directory(tree):
    session = tree.session()
    tree.run(session.mkdir(P))
    tree.clock.advance(10)
    tree.grid.faults.add(Rule(Kind.LATE, nth=1, seconds=2.0))
    opening = tree.start(session.open_write(P, truncate=True, create=True))
    listing = tree.start(session.list(P))
    removal = tree.start(session.rmdir(P))
    tree.clock.advance(3)
    assert opening.result.check(e.ChildOfWrongTypeError)
    opening.addErrback(lambda _: None)
    assert listing.called
    assert removal.result is None
    assert linked(tree) == {}


def test_a_rename_waits_for_a_commit_that_has_begun(tree):
    session = tree.session()
    d = closing(tree, writing(tree, session, b"data"))
    rename = tree.start(session.rename(P, Q, replace=False))
    assert not rename.called
    tree.client.release()
    assert d.called
    assert rename.called
    assert rename.result is None
    assert linked(tree) == {"q": b"data"}


def test_a_file_whose_commit_ends_during_a_rename_is_not_kept(tree):
    session = tree.session()
    d = closing(tree, writing(tree, session, b"data"))
    rename = tree.start(session.rename(P, Q, replace=False))
    tree.clock.advance(10)  # so that the rename has to ask the grid
    late = Rule(Kind.LATE, nth=3, seconds=2.0, forever=True)
    tree.grid.faults.add(late)
    tree.client.release()
    for _ in range(200):
        tree.clock.advance(0.5)
    assert late.reached
    assert d.called
    assert rename.called
    assert rename.result is None
    assert len(tree.vfs.pending) == 0
    assert session._index == {}
    tree.grid.faults.rules.clear()
    assert linked(tree) == {"q": b"data"}


def test_what_is_being_written_stands_in_the_way_of_a_plain_rename(tree):
    session = tree.session()
    tree.put(session, "/x", b"x")
    writing(tree, session, b"p")
    assert tree.failure(session.rename(X, P, replace=False)) is e.ExistingChildError
    tree.run(session.mkdir(("d",)))
    assert tree.failure(session.rename(("d",), P, replace=True)) is e.ExistingChildError


def test_renaming_over_a_written_file_abandons_its_handles(tree):
    session = tree.session()
    tree.put(session, "/x", b"x")
    handle = writing(tree, session, b"pending")
    tree.run(session.rename(X, P, replace=True))
    assert tree.stat(session, "/p").size == 1
    tree.run(handle.write(7, b"!"))
    assert tree.run(handle.read(0, 10)) == b"pending!"
    tree.run(handle.commit())
    assert linked(tree) == {"p": b"x"}
    assert tree.vfs.spool.used == 0


def test_a_written_file_takes_the_place_of_a_linked_one(tree):
    session = tree.session()
    tree.put(session, "/q", b"old")
    handle = writing(tree, session, b"new")
    assert tree.failure(session.rename(P, Q, replace=False)) is e.ExistingChildError
    tree.run(session.rename(P, Q, replace=True))
    tree.run(handle.commit())
    assert linked(tree) == {"q": b"new"}


def test_a_rename_that_fails_leaves_handles_where_they_were(tree):
    session = tree.session()
    tree.put(session, "/p", b"old")
    handle = writing(tree, session, b"new", truncate=True)
    victim = writing(tree, session, b"victim", "/q")
    tree.grid.faults.add(
        Rule(Kind.ERROR, calls=frozenset({"slot_testv_and_readv_and_writev"}), forever=True)
    )
    assert tree.failure(session.rename(P, Q, replace=True)) is not None
    tree.grid.faults.rules.clear()
    tree.run(handle.commit())
    tree.run(victim.commit())
    assert linked(tree) == {"p": b"new", "q": b"victim"}


# remove


def test_removing_a_written_file_abandons_its_handles(tree):
    session = tree.session()
    handle = writing(tree, session, b"data")
    tree.run(session.remove(P))
    assert tree.names(session) == {}
    tree.run(handle.write(4, b"!"))
    tree.run(handle.commit())
    assert linked(tree) == {}
    assert tree.vfs.spool.used == 0


def test_removing_a_linked_file_that_is_rewritten_removes_both(tree):
    session = tree.session()
    tree.put(session, "/p", b"old")
    handle = writing(tree, session, b"new", truncate=True)
    tree.run(session.remove(P))
    tree.run(handle.commit())
    assert linked(tree) == {}


def test_a_removal_waits_for_a_commit_that_has_begun(tree):
    session = tree.session()
    d = closing(tree, writing(tree, session, b"data"))
    removal = tree.start(session.remove(P))
    assert not removal.called
    tree.client.release()
    assert d.called
    assert removal.result is None
    assert linked(tree) == {}


def test_a_name_that_was_removed_can_be_written_anew(tree):
    session = tree.session()
    old = writing(tree, session, b"old")
    tree.run(session.remove(P))
    new = writing(tree, session, b"new")
    tree.run(old.commit())
    assert tree.stat(session, "/p").size == 3
    tree.run(new.commit())
    assert linked(tree) == {"p": b"new"}


def test_another_accounts_files_are_left_alone(tree):
    alice, bob = tree.session("alice"), tree.session("bob")
    handle = writing(tree, alice, b"alice")
    assert tree.failure(bob.remove(P)) is e.NoSuchChildError
    assert tree.failure(bob.rename(P, Q, replace=True)) is e.NoSuchChildError
    tree.put(bob, "/p", b"bob")
    tree.run(bob.rename(P, Q, replace=True))
    tree.run(handle.commit())
    assert linked(tree) == {"p": b"alice", "q": b"bob"}


# setstat


def test_attributes_set_by_path_reach_handles_and_link(tree):
    session = tree.session()
    tree.put(session, "/p", b"old")
    handle = writing(tree, session, b"newer", truncate=True)
    tree.run(session.set_attributes(P, mtime=99, size=3))
    assert tree.stat(session, "/p").mtime == 99
    assert tree.stat(session, "/p").size == 3
    assert tree.stat(tree.session("bob"), "/p").mtime == 99
    tree.run(handle.commit())
    assert tree.stat(session, "/p").mtime == 99
    assert linked(tree) == {"p": b"new"}


def test_a_mode_set_on_a_new_file_is_written_with_it(tree):
    session = tree.session()
    handle = writing(tree, session, b"data")
    handle.set_mode(0o100444)
    assert tree.stat(session, "/p").mode == 0o444
    assert tree.failure(session.open_write(P, truncate=True, create=True)) is e.NotWriteableError
    tree.run(handle.commit())
    assert tree.stat(session, "/p").mode == 0o444
    assert tree.failure(session.open_write(P, truncate=True, create=True)) is e.NotWriteableError


# EXCL


def test_an_exclusive_creation_links_an_empty_file_at_once(tree):
    session = tree.session()
    handle = tree.open(session, "/p", exclusive=True)
    assert linked(tree) == {"p": b""}
    tree.run(handle.write(0, b"data"))
    tree.run(handle.commit())
    assert linked(tree) == {"p": b"data"}


def test_an_exclusive_creation_fails_if_the_name_is_linked_or_being_written(tree):
    one, two, bob = tree.session(), tree.session(), tree.session("bob")
    writing(tree, one, b"1")
    for session in (one, two):
        failed = session.open_write(P, truncate=False, create=True, exclusive=True)
        assert tree.failure(failed) is e.ExistingChildError
    tree.run(bob.open_write(P, truncate=False, create=True, exclusive=True))
    again = bob.open_write(P, truncate=False, create=True, exclusive=True)
    assert tree.failure(again) is e.ExistingChildError
    assert tree.failure(one.mkdir(P)) is e.ExistingChildError


def test_an_exclusive_file_without_writes_costs_no_second_publish(tree):
    handle = tree.open(tree.session(), "/p", exclusive=True)
    before = tree.calls
    tree.run(handle.commit())
    assert tree.calls == before


# the end


def test_an_empty_new_file_is_linked_by_its_close(tree):
    tree.run(tree.open(tree.session(), "/p").commit())
    assert linked(tree) == {"p": b""}


def test_a_sync_commits_and_leaves_the_handle_open(tree):
    handle = writing(tree, tree.session(), b"one")
    tree.run(handle.sync())
    assert linked(tree) == {"p": b"one"}
    tree.run(handle.write(3, b" two"))
    handle.abandon()
    assert linked(tree) == {"p": b"one"}
    assert tree.vfs.spool.used == 0


def test_a_commit_in_the_background_is_answered_when_it_is_spooled(tmp_path):
    tree = Tree(tmp_path, commit_mode="background")
    session = tree.session()
    handle = writing(tree, session, b"data")
    tree.client.hold()
    tree.run(handle.commit())
    assert linked(tree) == {}
    assert tree.stat(session, "/p").size == 4
    assert tree.vfs.gauges().commits_running == 1
    tree.client.release()
    assert linked(tree) == {"p": b"data"}
    assert tree.vfs.gauges().commits_running == 0


def test_a_failure_in_the_background_is_counted(tmp_path):
    tree = Tree(tmp_path, commit_mode="background")
    tree.client.hold()
    tree.client.error = e.UploadUnhappinessError("no")
    tree.run(writing(tree, tree.session(), b"data").commit())
    tree.client.release()
    assert tree.vfs.commits.failed == 1
    assert linked(tree) == {}
    assert tree.vfs.spool.used == 0


def test_at_most_64_commits_run_behind_the_clients_back(tmp_path):
    tree = Tree(tmp_path, commit_mode="background")
    session = tree.session()
    tree.client.hold()
    for i in range(64):
        tree.run(writing(tree, session, b"d" * 100, f"/{i}").commit())
    d = tree.start(writing(tree, session, b"d", "/last").commit())
    assert not d.called
    tree.client.release()
    assert d.called
    assert len(linked(tree)) == 65


def test_stopping_waits_for_commits_and_takes_no_new_ones(tree):
    session = tree.session()
    other = writing(tree, session, b"other", "/q")
    d = closing(tree, writing(tree, session, b"data"))
    stopped = tree.start(tree.vfs.drain(30))
    tree.clock.advance(1)
    assert not stopped.called
    assert tree.failure(other.commit()) is e.ShuttingDownError
    assert tree.vfs.spool.used == 4
    tree.client.release()
    tree.clock.advance(1)
    assert d.called
    assert stopped.called
    assert linked(tree) == {"p": b"data"}


def test_stopping_gives_up_what_takes_too_long(tree):
    d = closing(tree, writing(tree, tree.session(), b"data"))
    stopped = tree.start(tree.vfs.drain(30))
    for _ in range(2000):
        tree.clock.advance(0.02)
    assert stopped.called
    assert d.called
    d.addErrback(lambda _: None)
    assert linked(tree) == {}
    assert tree.vfs.spool.used == 0


def test_a_commit_onto_a_name_that_became_a_directory_fails(tree):
    session = tree.session()
    handle = writing(tree, session, b"data")
    bob = tree.session("bob")
    tree.run(bob.mkdir(P))
    assert tree.failure(handle.commit()) is e.ExistingChildError
    assert tree.names(bob)["p"].is_directory


def test_a_mutable_file_that_was_replaced_meanwhile_is_not_published_to(tree):
    session = tree.session()
    node = tree.run(tree.client.create_mutable_file(b"one"))
    tree.run(tree.root.set_node("p", node))
    handle = writing(tree, session, b"two", truncate=True)
    tree.run(tree.root.set_uri("p", None, b"URI:LIT:mfra"))
    tree.run(handle.commit())
    assert linked(tree) == {"p": b"two"}
    assert tree.run(node.download_best_version()) == b"one"


# a second name


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_second_name_right_behind_a_close_waits_for_its_commit(tree, exclusive):
    session = tree.session()
    handle = writing(tree, session, b"contents", exclusive=exclusive)
    commit = closing(tree, handle)
    link = tree.start(session.link(P, Q))
    assert not link.called
    tree.client.release()
    assert commit.called
    assert link.called
    assert linked(tree) == {"p": b"contents", "q": b"contents"}


def test_a_second_name_of_an_open_file_has_what_is_written_so_far(tree):
    session = tree.session()
    handle = writing(tree, session, b"so far", exclusive=True)
    tree.run(session.link(P, Q))
    assert linked(tree) == {"p": b"so far", "q": b"so far"}
    tree.run(handle.write(6, b" and on"))
    tree.run(handle.commit())
    assert linked(tree) == {"p": b"so far and on", "q": b"so far"}


@pytest.mark.threat("F5")
@pytest.mark.threat("F8")
def test_a_second_name_never_commits_what_another_session_is_in_the_midst_of(tree):
    one, two = tree.session(), tree.session()
    handle = writing(tree, one, b"ha", truncate=True)
    assert tree.failure(two.link(P, Q)) is e.NoSuchChildError
    assert linked(tree) == {}
    tree.put(two, "/p", b"whole")
    tree.run(two.link(P, Q))
    assert linked(tree) == {"p": b"whole", "q": b"whole"}
    tree.run(one.logout())
    assert linked(tree) == {"p": b"whole", "q": b"whole"}
    handle.abandon()


def test_a_second_name_waits_for_a_close_of_another_session(tree):
    one, two = tree.session(), tree.session()
    commit = closing(tree, writing(tree, one, b"one"))
    link = tree.start(two.link(P, Q))
    assert not link.called
    tree.client.release()
    assert commit.called
    assert link.called
    assert linked(tree) == {"p": b"one", "q": b"one"}


def test_a_second_name_fails_when_the_commit_does(tree):
    session = tree.session()
    handle = writing(tree, session, b"contents")
    tree.client.error = e.NoServersError("none")
    assert tree.failure(session.link(P, Q)) is e.NoServersError
    assert linked(tree) == {}
    handle.abandon()


def test_a_handle_knows_whether_it_created_the_name(tree):
    session = tree.session()
    first = writing(tree, session, b"1")
    second = tree.open(session, "/p", create=True)
    assert (first.created, second.created) == (True, False)
    tree.run(first.commit())
    tree.run(second.commit())
    assert not tree.open(session, "/p", create=True).created
    assert tree.open(session, "/q", create=True, exclusive=True).created


def test_sync_waits_for_its_commit_where_closing_does_not(tmp_path):
    tree = Tree(tmp_path, commit_mode="background")
    session = tree.session()
    handle = writing(tree, session, b"contents")
    tree.client.hold()
    sync = tree.start(handle.sync())
    assert not sync.called
    tree.client.release()
    assert sync.called
    assert linked(tree) == {"p": b"contents"}
    handle.abandon()


def test_a_second_name_that_cannot_be_commits_nothing(tree):
    session = tree.session()
    tree.put(session, "/q", b"q")
    handle = writing(tree, session, b"contents")
    assert tree.failure(session.link(P, Q)) is e.ExistingChildError
    assert linked(tree) == {"q": b"q"}
    handle.abandon()


@pytest.mark.threat("F8")
def test_a_commit_that_vanishes_is_not_taken_for_a_success(tree):
    handle = writing(tree, tree.session(), b"contents")
    tree.client.hold()
    handle.file.commit_begins()
    answer = Deferred()
    commit = tree.vfs.commits._run(handle.file, tree.client, answer, waits=True)
    commit.send(None)
    commit.close()  # as when nobody will ever fire what it waits for
    answer.addErrback(lambda failure: failure.trap(e.OperationCancelledError))
    assert answer.result is e.OperationCancelledError
    handle.abandon()
