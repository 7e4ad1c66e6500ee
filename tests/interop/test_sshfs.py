"""A filestore as a drive: git, tar, rsync and editors on a mount, and two mounts at once."""

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients.node import ClientNode
from tests.interop.clients.sftp import Sshfs

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def node(shared_node: ClientNode) -> ClientNode:
    return shared_node


def mounted(node: ClientNode, work: Path, *options: str) -> Sshfs:
    work.mkdir()
    client = Sshfs(node.server, work)
    client.more = options
    if why := client.missing():
        pytest.skip(why)
    return client


@pytest.fixture
def drive(node: ClientNode, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty folder on a mount."""
    client = mounted(node, tmp_path / "one")
    try:
        folder = client.mount / request.function.__name__
        folder.mkdir()
        yield folder
    finally:
        client.close()


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def do(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        },
    )
    assert done.returncode == 0, (command, done.stdout[-1500:], done.stderr[-1500:])
    return done.stdout


def git(*words: object, cwd: Path) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    return do(need("git"), *who, *words, cwd=cwd)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).digest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Some files in folders, on this machine's disk."""
    folder = tmp_path / "work"
    chance = random.Random(5)
    for i in range(12):
        path = folder / f"sub {i % 3}" / f"naïve é 日本 {i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(3_000 * i))
        os.utime(path, (1_234_567_890 + i, 1_234_567_890 + i))
    return folder


def test_git_makes_commits_clones_and_tidies_up(drive: Path, tmp_path: Path) -> None:
    repository = drive / "repository"
    git("init", "-q", repository, cwd=drive)
    for i in range(3):
        (repository / f"file {i}").write_text(f"line {i}\n" * 1000)
        git("add", ".", cwd=repository)
        git("commit", "-q", "-m", f"commit {i}", cwd=repository)
    assert git("status", "--porcelain", cwd=repository) == ""
    git("gc", "-q", cwd=repository)
    git("fsck", "--strict", cwd=repository)
    assert len(git("log", "--oneline", cwd=repository).splitlines()) == 3
    git("clone", "-q", repository, tmp_path / "clone", cwd=tmp_path)
    assert (tmp_path / "clone" / "file 2").read_text() == "line 2\n" * 1000
    git("clone", "-q", tmp_path / "clone", drive / "back", cwd=tmp_path)
    assert git("status", "--porcelain", cwd=drive / "back") == ""


def test_tar_unpacks_and_packs(drive: Path, work: Path, tmp_path: Path) -> None:
    do("tar", "-cf", tmp_path / "a.tar", "-C", work, ".")
    (drive / "out").mkdir()
    do("tar", "-xf", tmp_path / "a.tar", "-C", drive / "out")
    assert tree(drive / "out") == tree(work)
    times = {p.name: int(p.stat().st_mtime) for p in work.rglob("*.txt")}
    assert {p.name: int(p.stat().st_mtime) for p in (drive / "out").rglob("*.txt")} == times
    do("tar", "-cf", drive / "b.tar", "-C", drive / "out", ".")
    (tmp_path / "again").mkdir()
    do("tar", "-xf", drive / "b.tar", "-C", tmp_path / "again")
    assert tree(tmp_path / "again") == tree(work)


def test_an_editor_saves_by_a_new_file_synced_and_renamed(drive: Path, node: ClientNode) -> None:
    for text in (b"first\n", b"second\n" * 20_000, b""):
        with (drive / ".note.swp").open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        (drive / ".note.swp").replace(drive / "note")
        # fsync waited for the stores, and the rename for the link: others see it at once
        assert node.get(f"/{drive.name}/note") == text
        assert (drive / "note").read_bytes() == text
    assert [p.name for p in drive.iterdir()] == ["note"]


def test_files_are_cut_grown_and_written_in_the_middle(drive: Path, node: ClientNode) -> None:
    path = drive / "file"
    do("truncate", "-s", "100", path)
    assert path.read_bytes() == bytes(100)
    path.write_bytes(b"0123456789" * 10_000)
    do("truncate", "-s", "100", path)
    assert path.read_bytes() == b"0123456789" * 10
    do("truncate", "-s", "200000", path)
    assert path.read_bytes() == b"0123456789" * 10 + bytes(199_900)
    with path.open("r+b") as file:
        file.seek(150_000)
        file.write(b"middle")
        file.flush()
        os.fsync(file.fileno())
    expected = b"0123456789" * 10 + bytes(149_900) + b"middle" + bytes(49_994)
    assert path.read_bytes() == expected
    assert node.get(f"/{drive.name}/file") == expected


def test_df_tells_room_and_times_are_kept(drive: Path, work: Path) -> None:
    free = do("df", "-k", "--output=size,avail", drive).splitlines()[1].split()
    assert 0 < int(free[1]) <= int(free[0])
    source = next(work.rglob("*.txt"))
    do("cp", "-p", source, drive / "copy")
    assert int((drive / "copy").stat().st_mtime) == int(source.stat().st_mtime)
    do("touch", "-d", "2001-02-03 04:05:06 UTC", drive / "copy")
    assert int((drive / "copy").stat().st_mtime) == 981_173_106
    assert tree(drive)["copy"] == hashlib.sha256(source.read_bytes()).digest()


def test_rsync_sends_nothing_the_second_time(drive: Path, work: Path) -> None:
    rsync = [need("rsync"), "-a", "--no-owner", "--no-group", "--no-perms", "-i"]
    first = do(*rsync, f"{work}/", f"{drive}/")
    assert first.count(">f") == 12
    assert tree(drive) == tree(work)
    again = do(*rsync, "--stats", f"{work}/", f"{drive}/")
    assert "Number of regular files transferred: 0" in again
    assert ">f" not in again
    (work / "sub 1" / "new").write_text("new")
    assert do(*rsync, f"{work}/", f"{drive}/").count(">f") == 1


def test_rsync_with_all_attributes_sends_nothing_the_second_time(drive: Path, work: Path) -> None:
    rsync = [need("rsync"), "-a", "-i"]
    do(*rsync, f"{work}/", f"{drive}/")
    again = do(*rsync, "--stats", f"{work}/", f"{drive}/")
    assert "Number of regular files transferred: 0" in again


def test_two_mounts_of_one_account_see_each_other(
    drive: Path, node: ClientNode, tmp_path: Path
) -> None:
    second = mounted(node, tmp_path / "two", "dir_cache=no")
    try:
        other = second.mount / drive.name
        for i in range(5):
            with (drive / f"file {i}").open("wb") as file:
                file.write(b"%d" % i * 50_000)
                file.flush()
                os.fsync(file.fileno())
            assert (other / f"file {i}").read_bytes() == b"%d" % i * 50_000
        assert sorted(p.name for p in other.iterdir()) == [f"file {i}" for i in range(5)]
        (other / "file 0").rename(other / "moved")
        (other / "file 1").unlink()
        node.wait_for(lambda: sorted(node.names(f"/{drive.name}"))[-1] == "moved")
        with (other / "both").open("wb") as a, (drive / "mine").open("wb") as b:
            for _ in range(20):
                a.write(b"a" * 10_000)
                b.write(b"b" * 10_000)
            for file in (a, b):
                file.flush()
                os.fsync(file.fileno())
        assert (other / "mine").read_bytes() == b"b" * 200_000
        assert node.get(f"/{drive.name}/both") == b"a" * 200_000
    finally:
        second.close()
