import multiprocessing
import os
import stat

import pytest

from truckee.core import files
from truckee.core.errors import ConfigError


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.threat("O1")
def test_directories_are_made_for_their_owner_alone(tmp_path):
    made = tmp_path / "a" / "b"
    files.make_private_directory(made)
    assert (mode(made), mode(made.parent)) == (0o700, 0o700)
    files.make_private_directory(made)


@pytest.mark.parametrize("wrong", [0o750, 0o701, 0o777, 0o710])
def test_a_directory_open_to_others_is_refused(tmp_path, wrong):
    tmp_path.chmod(wrong)
    with pytest.raises(ConfigError, match="open to others"):
        files.make_private_directory(tmp_path)


@pytest.mark.parametrize("write", [files.create, files.replace])
def test_new_files_are_for_their_owner_alone_whatever_the_umask(tmp_path, write):
    old = os.umask(0)
    try:
        write(tmp_path / "secret", b"data")
    finally:
        os.umask(old)
    assert mode(tmp_path / "secret") == 0o600
    assert files.read(tmp_path / "secret", 10) == b"data"
    assert os.listdir(tmp_path) == ["secret"]


def test_create_never_touches_what_is_there(tmp_path):
    path = tmp_path / "secret"
    files.create(path, b"old")
    with pytest.raises(FileExistsError):
        files.create(path, b"new")
    assert files.create_or_read(path, b"new", 10) == b"old"
    assert os.listdir(tmp_path) == ["secret"]


@pytest.mark.threat("O2")
@pytest.mark.threat("O2")
def test_a_planted_link_is_neither_followed_nor_overwritten_through(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"theirs")
    link.symlink_to(target)
    with pytest.raises(FileExistsError):
        files.create(link, b"ours")
    with pytest.raises(ConfigError, match="symbolic link"):
        files.read(link, 10)
    files.replace(link, b"ours")
    assert target.read_bytes() == b"theirs"
    assert link.read_bytes() == b"ours"
    assert not link.is_symlink()


def test_reading_is_bounded_and_only_of_files(tmp_path):
    path = tmp_path / "secret"
    files.create(path, b"12345")
    assert files.read(path, 5) == b"12345"
    with pytest.raises(ConfigError, match="larger"):
        files.read(path, 4)
    with pytest.raises(ConfigError, match="regular file"):
        files.read(tmp_path, 4)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="open to others"):
        files.read(path, 5)
    assert files.read(path, 5, private=False) == b"12345"


def test_remove_is_content_when_nothing_is_there(tmp_path):
    files.create(tmp_path / "x", b"")
    files.remove(tmp_path / "x")
    files.remove(tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_can_be_swept(tmp_path):
    files.create(tmp_path / "kept", b"")
    (tmp_path / ".kept.abcd.truckee-tmp").write_bytes(b"half")
    files.remove_temporaries(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]


def test_a_failed_replacement_leaves_no_temporary_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        files.replace(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]


def _append(path, letter):
    for _ in range(20):
        with files.locked_directory(path.parent):
            files.replace(path, files.read(path, 1000) + letter)


def test_two_writers_take_turns(tmp_path):
    path = tmp_path / "log"
    files.create(path, b"")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append, args=(path, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert sorted(path.read_bytes()) == sorted(b"a" * 20 + b"b" * 20)
