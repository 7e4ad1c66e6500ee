"""Every operation with every program that people have: the acceptance table, by running.

The table is data (clients/expectations.py); one test function is one row, one case one cell. What
a program did is looked at through an FTP session of the test's own. All rows use the name and,
where bytes are compared, the length that break most: ``naïve é 日本.bin`` with 10 MiB + 7 bytes.
"""

import filecmp
import ftplib
import os
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.clients.base import Client, Refused
from tests.interop.clients.expectations import cells, takes_long
from tests.interop.clients.node import ClientNode
from tests.interop.clients.planting import INSIDE, MANY
from tests.interop.clients.table import CLIENTS

pytestmark = pytest.mark.interop

NAME = "naïve é 日本.bin"
LONG = random.Random(3).randbytes(10 * 2**20 + 7)
MIDDLE = LONG[: 2**20 + 7]
SHORT = random.Random(4).randbytes(100_003)
WHEN = 1_234_567_890


def row(name: str):
    """Make one case of each cell of this row; the test takes `column` and `expected`."""
    cases = [
        pytest.param(column, word, id=column, marks=[pytest.mark.long] * takes_long(name, column))
        for column, word in cells(name)
    ]
    return pytest.mark.parametrize(("column", "expected"), cases)


@pytest.fixture(scope="module")
def node(shared_node: ClientNode) -> ClientNode:
    return shared_node


def client_of(column: str, node: ClientNode, work: Path, **changes: str) -> Client:
    work.mkdir(exist_ok=True)
    client = CLIENTS[column](replace(node.server, **changes), work)
    if why := client.missing():
        pytest.skip(why)
    return client


@pytest.fixture
def client(column: str, node: ClientNode, tmp_path: Path) -> Iterator[Client]:
    client = client_of(column, node, tmp_path / "work")
    yield client
    client.close()


@pytest.fixture
def home(node: ClientNode, column: str) -> str:
    """An empty directory in the filestore, of this program alone."""
    path = f"/home of {column}"
    node.empty(path)
    return path


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.mkdir()
    (path / NAME).write_bytes(LONG)
    (path / "short").write_bytes(SHORT)
    (path / "empty").touch()
    return path


def holds(client: Client, node: ClientNode, folder: str, contents: dict[str, bytes]) -> None:
    """The folder holds just this: at once, or after close() on a mount, which waits for nothing."""

    def there() -> bool:
        with suppress(ftplib.Error):
            return node.get_all(folder) == contents
        return False

    if client.closes_late:
        with suppress(AssertionError):
            node.wait_for(there)
    assert node.get_all(folder) == contents


def refused(expected: str, verb, *arguments: object) -> None:
    with pytest.raises(Refused) as caught:
        verb(*arguments)
    assert caught.value.is_as(expected), caught.value


# logging in


@row("login-password")
def test_logs_in_by_password(column: str, expected: str, node: ClientNode, tmp_path: Path) -> None:
    client = client_of(column, node, tmp_path / "work", login="password")
    try:
        client.check_login()
    finally:
        client.close()


@row("login-key")
def test_logs_in_by_key(column, expected, client) -> None:
    client.check_login()


@row("login-rsa-key")
def test_logs_in_by_rsa_key(column: str, expected: str, node: ClientNode, tmp_path: Path) -> None:
    client = client_of(column, node, tmp_path / "work", login="rsa")
    try:
        client.check_login()
    finally:
        client.close()


@row("wrong-password")
def test_a_wrong_password_is_refused_after_a_second(
    column: str, expected: str, node: ClientNode, tmp_path: Path
) -> None:
    node.forgive()
    user = f"stranger-{column}"
    changes = {"login": "password", "password": "wrong", "user": user}
    client = client_of(column, node, tmp_path / "work", **changes)
    began = time.monotonic()
    try:
        refused(expected, client.check_login)
    finally:
        client.close()
    assert 1 <= time.monotonic() - began < 8


# listing


@row("list-3")
def test_lists_three_names(column, expected, client, node, home) -> None:
    names = [NAME, "zwei", "ein langer Name " + "x" * 180]
    node.put_all(home, dict.fromkeys(names, b"x"))
    assert sorted(client.names(home)) == sorted(names)


@row("list-10000")
def test_lists_ten_thousand_names(column, expected, client) -> None:
    assert sorted(client.names("/many")) == MANY


# bytes


@row("upload")
def test_uploads(column, expected, client, node, home, local) -> None:
    for path in local.iterdir():
        client.upload(path, f"{home}/{path.name}")
    holds(client, node, home, {NAME: LONG, "short": SHORT, "empty": b""})


@row("download")
def test_downloads(column, expected, client, node, home, tmp_path) -> None:
    contents = {NAME: LONG, "short": SHORT, "empty": b""}
    node.put_all(home, contents)
    for name, data in contents.items():
        client.download(f"{home}/{name}", tmp_path / name)
        assert (tmp_path / name).read_bytes() == data


@row("ascii")
def test_text_goes_up_and_down_with_the_ends_of_lines_of_this_machine(
    column, expected, client, node, home, tmp_path
) -> None:
    (tmp_path / "text").write_bytes(b"one\ntwo\n" * 10_000)
    client.upload_text(tmp_path / "text", f"{home}/{NAME}")
    assert node.get(f"{home}/{NAME}") == b"one\ntwo\n" * 10_000
    client.download_text(f"{home}/{NAME}", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"one\ntwo\n" * 10_000


@row("resume-download")
def test_resumes_a_download(column, expected, client, node, home, tmp_path) -> None:
    node.put_all(home, {NAME: LONG})
    (tmp_path / NAME).write_bytes(LONG[:3_333_333])
    client.resume_download(f"{home}/{NAME}", tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == LONG


@row("resume-upload")
def test_resumes_an_upload(column, expected, client, node, home, local) -> None:
    node.put_all(home, {NAME: LONG[:3_333_333]})
    client.resume_upload(local / NAME, f"{home}/{NAME}")
    holds(client, node, home, {NAME: LONG})


@row("append")
def test_appends(column, expected, client, node, home, local) -> None:
    node.put_all(home, {NAME: LONG})
    client.append(local / "short", f"{home}/{NAME}")
    holds(client, node, home, {NAME: LONG + SHORT})


@row("overwrite")
def test_overwrites_without_reading_what_was_there(
    column, expected, client, node, home, local
) -> None:
    before = node.shares()
    (local / NAME).write_bytes(MIDDLE)
    node.put_all(home, {NAME: MIDDLE[::-1]})
    for share in node.shares() - before:
        if share.stat().st_size > 100_000:  # the file, not the directory
            share.unlink()
    client.upload(local / NAME, f"{home}/{NAME}")
    holds(client, node, home, {NAME: MIDDLE})
    client.upload(local / "short", f"{home}/{NAME}")
    holds(client, node, home, {NAME: SHORT})


@row("tree")
def test_whole_trees_go_up_and_down(column, expected, client, home, local, tmp_path) -> None:
    (local / "sub dir" / "é").mkdir(parents=True)
    (local / "sub dir" / "é" / NAME).write_bytes(SHORT)
    (local / NAME).write_bytes(MIDDLE)
    client.upload_tree(local, f"{home}/tree")
    target = tmp_path / "down"
    target.mkdir()
    client.download_tree(f"{home}/tree", target)
    found = {p.relative_to(local): p.read_bytes() for p in local.rglob("*") if p.is_file()}
    came = [p for p in target.rglob("*") if p.is_file()]
    # some make a folder "tree" below the target, some do not
    top = target / "tree" if (target / "tree").is_dir() else target
    assert {p.relative_to(top): p.read_bytes() for p in came} == found


@row("parallel")
def test_four_transfers_at_once(column, expected, client, node, home, tmp_path) -> None:
    four, target = tmp_path / "four", tmp_path / "down"
    four.mkdir()
    target.mkdir()
    contents = {f"{i} {NAME}": LONG[i : 1_000_000 * i] + SHORT for i in range(4)}
    for name, data in contents.items():
        (four / name).write_bytes(data)
    client.parallel(sorted(four.iterdir()), home, target)
    holds(client, node, home, contents)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == contents


# names and attributes


@row("rename")
def test_renames(column, expected, client, node, home) -> None:
    node.put_all(home, {NAME: SHORT})
    client.rename(f"{home}/{NAME}", f"{home}/other é")
    assert node.get_all(home) == {"other é": SHORT}


@row("rename-over")
def test_renames_over_a_file_that_exists(column, expected, client, node, home) -> None:
    node.put_all(home, {NAME: SHORT, "other": b"other"})
    _rename_over(expected, client.rename, node, home)


@row("rename-over-other")
def test_renames_over_a_file_the_other_way(column, expected, client, node, home) -> None:
    node.put_all(home, {NAME: SHORT, "other": b"other"})
    _rename_over(expected, client.rename_other, node, home)


def _rename_over(expected: str, rename, node: ClientNode, home: str) -> None:
    old, new = f"{home}/{NAME}", f"{home}/other"
    if expected == "replaced":
        rename(old, new)
        assert node.get_all(home) == {"other": SHORT}
    else:
        refused(expected, rename, old, new)
        assert node.get_all(home) == {NAME: SHORT, "other": b"other"}


@row("delete")
def test_deletes(column, expected, client, node, home) -> None:
    node.put_all(home, {NAME: SHORT, "other": b""})
    client.delete(f"{home}/{NAME}")
    assert node.names(home) == ["other"]


@row("mkdir-p")
def test_makes_directories_within_directories(column, expected, client, node, home) -> None:
    client.mkdir_p(f"{home}/é/a b/c")
    assert node.names(f"{home}/é/a b") == ["c"]
    assert node.names(f"{home}/é/a b/c") == []


@row("rmdir")
def test_removes_an_empty_directory(column, expected, client, node, home) -> None:
    node.mkdir(f"{home}/{NAME}")
    client.rmdir(f"{home}/{NAME}")
    assert node.names(home) == []


@row("rmdir-non-empty")
def test_a_directory_that_is_not_empty_stays(column, expected, client, node, home) -> None:
    node.put_all(home, {NAME: b""})
    refused(expected, client.rmdir, home)
    assert node.names(home) == [NAME]


@row("stat")
def test_sees_size_and_time(column, expected, client, node, home) -> None:
    node.put_all(home, {NAME: SHORT})
    now = int(time.time()) // 60 * 60 - 86_400  # some show minutes only, of the last months
    node.set_mtime(f"{home}/{NAME}", now)
    assert client.stat(f"{home}/{NAME}") == (len(SHORT), now)


@row("mtime")
def test_keeps_the_time_of_a_file(column, expected, client, node, home, local) -> None:
    (local / NAME).write_bytes(MIDDLE)
    os.utime(local / NAME, (WHEN, WHEN))
    client.upload_with_time(local / NAME, f"{home}/{NAME}")
    holds(client, node, home, {NAME: MIDDLE})
    assert node.mtime(f"{home}/{NAME}") == WHEN


@row("chmod")
def test_a_file_made_read_only_is_not_overwritten(
    column, expected, client, node, home, local
) -> None:
    node.put_all(home, {NAME: b"kept"})
    client.chmod("444", f"{home}/{NAME}")
    refused(expected, client.upload, local / "short", f"{home}/{NAME}")
    assert node.get(f"{home}/{NAME}") == b"kept"
    client.chmod("644", f"{home}/{NAME}")
    client.upload(local / "short", f"{home}/{NAME}")
    holds(client, node, home, {NAME: SHORT})


@row("symlink")
def test_symbolic_links_are_refused(column, expected, client, node, home) -> None:
    refused(expected, client.symlink, "target", f"{home}/{NAME}")
    assert node.names(home) == []


# what goes wrong


@pytest.mark.threat("F8")
@row("killed")
def test_killed_in_an_upload_leaves_what_was_there(
    column, expected, client, node, home, local
) -> None:
    node.put_all(home, {"old": b"old"})
    before = node.get_all(home)
    for path in (f"{home}/{NAME}", f"{home}/old"):
        process = client.slow_upload(local / NAME, path)
        try:
            node.wait_for(lambda: (node.size(path) or 0) > 10_000)  # noqa: B023
            assert process.poll() is None
        finally:
            client.kill(process)
        client.close()
        node.wait_for(lambda: node.size(path) == (3 if path.endswith("old") else None))  # noqa: B023
        time.sleep(0.3)
        assert node.get_all(home) == before


@pytest.mark.threat("U5")
@row("hostile")
def test_names_that_lead_out_of_a_folder_are_not_written(
    column, expected, client, tmp_path
) -> None:
    target = tmp_path / "deep" / "er" / "target"
    target.mkdir(parents=True)
    client.download_tree("/hostile", target)
    found = [p for p in (tmp_path / "deep").rglob("*") if p.is_file()]
    assert {p.name for p in found} >= set(INSIDE)
    assert all(p.is_relative_to(target) for p in found)
    assert {p.name for p in found} <= {*INSIDE, "x\ny"}
    assert not (tmp_path / "escaped").exists()
    assert not Path("/escaped").exists()


@pytest.fixture(scope="module")
def lame(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientNode]:
    """A node with two stores that both must hold a share, one of which goes away."""
    folder = tmp_path_factory.mktemp("lame") / "node"
    coding = ("--servers", "2", "--needed", "1", "--happy", "2", "--total", "2")
    with ClientNode(folder, coding).make() as node:
        node.put("old", b"old")
        node.folder.joinpath("servers", "01").rename(folder.parent / "gone")
        yield node


@row("unplaceable")
def test_an_upload_that_no_store_takes_fails_and_leaves_what_was_there(
    column, expected, lame: ClientNode, tmp_path: Path
) -> None:
    client = client_of(column, lame, tmp_path / "work")
    (tmp_path / "short").write_bytes(SHORT)
    try:
        if expected == "silent":
            client.upload(tmp_path / "short", "/old")
            assert lame.get_all("/") == {"old": b"old"}
            return
        refused(expected, client.upload_for_sure, tmp_path / "short", "/old")
        assert lame.get_all("/") == {"old": b"old"}
        if not client.closes_late:  # a mount makes an empty file first
            refused(expected, client.upload_for_sure, tmp_path / "short", f"/{NAME}")
            assert lame.get_all("/") == {"old": b"old"}
    finally:
        client.close()


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of 2 GiB and one byte, no two stretches of which are alike."""
    path = tmp_path_factory.mktemp("huge") / NAME
    with path.open("wb") as file:
        for i in range(2**31 // len(LONG) + 1):
            file.write(i.to_bytes(8, "big") + LONG[8:])
        file.truncate(2**31 + 1)
    yield path
    path.unlink()


@row("huge")
def test_two_gibibytes_and_one_byte(column, expected, huge: Path, tmp_path: Path) -> None:
    folder, target = tmp_path / "node", tmp_path / "came back"
    coding = ("--servers", "1", "--needed", "1", "--happy", "1", "--total", "1")
    try:
        with ClientNode(folder, coding).make() as node:
            client = client_of(column, node, tmp_path / "work")
            client.longest = 1800
            try:
                client.upload(huge, f"/{NAME}")
                node.wait_for(lambda: node.size(f"/{NAME}") == 2**31 + 1, 300)
                client.download(f"/{NAME}", target)
                assert filecmp.cmp(huge, target, shallow=False)
            finally:
                client.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        target.unlink(missing_ok=True)


IDLE = 10.0


@pytest.fixture(scope="module")
def idled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future]]:
    """All programs wait at the same time, on a node of their own that has little patience."""
    folder = tmp_path_factory.mktemp("idle")
    node = ClientNode(folder / "node", ("--servers", "1"), settings="idle_timeout = 5").make()
    columns = [column for column, _ in cells("idle")]
    with node, ThreadPoolExecutor(len(columns)) as pool:
        node.mkdir("/idle")
        node.put_all("/idle", {NAME: b"x", "other": b"y"})
        clients = {}
        for column in columns:
            (folder / column).mkdir()
            clients[column] = CLIENTS[column](node.server, folder / column)
        yield {
            column: pool.submit(client.idle, "/idle", IDLE)
            for column, client in clients.items()
            if not client.missing()
        }
        for client in clients.values():
            client.close()


@row("idle")
def test_goes_on_after_a_pause(column, expected, idled: dict[str, Future]) -> None:
    if column not in idled:
        pytest.skip("the program is not here")
    if expected == "ok":
        assert sorted(idled[column].result(60)) == sorted([NAME, "other"])
    else:
        refused(expected, idled[column].result, 60)
