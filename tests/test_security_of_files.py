"""Every file that a node keeps is for its owner alone, and planted links are not followed."""

import os
import stat

import pytest

from tests.fakes.account_lines import BCRYPT
from tests.fakes.node_folder import make_node
from truckee.auth import account_edits
from truckee.core import files, grid
from truckee.core.errors import AccountError, ConfigError
from truckee.frontends.cli.main import run
from truckee.frontends.node import creation, logs
from truckee.frontends.node.process import RunningFile


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def node(tmp_path):
    return make_node(tmp_path / "node", servers=2)


@pytest.mark.threat("O1")
@pytest.mark.threat("O1")
def test_a_new_node_is_for_its_owner_alone_whatever_the_umask(tmp_path):
    old = os.umask(0)
    try:
        node = make_node(tmp_path / "node")
        RunningFile(node).take()
    finally:
        os.umask(old)
    found = {p: mode(p) for p in node.rglob("*")}
    wrong = {p for p, m in found.items() if m != (0o700 if p.is_dir() else 0o600)}
    assert not wrong
    assert mode(node) == 0o700
    assert len(found) > 8


EDITS = [
    ["account", "passwd", "ann", "--generate"],
    ["account", "lock", "ann"],
    ["account", "remove", "ann"],
]


@pytest.mark.threat("O1")
@pytest.mark.parametrize("words", EDITS, ids=lambda words: words[1])
def test_commands_leave_private_files_private(node, words, capsys, monkeypatch):
    monkeypatch.setattr("truckee.frontends.cli.account.hash_password", lambda _: BCRYPT)
    assert run(["-d", str(node), *words]) == 0, capsys.readouterr()
    for path in (node / "private").iterdir():
        assert mode(path) == 0o600, path.name
        assert "truckee-tmp" not in path.name


@pytest.mark.threat("O2")
@pytest.mark.parametrize("name", ["secret", "convergence"])
@pytest.mark.threat("O2")
def test_secrets_are_not_read_through_links_nor_when_open_to_others(node, name):
    path = node / "private" / name
    path.chmod(0o604)
    with pytest.raises(ConfigError):
        creation.read_secret(path)
    path.chmod(0o600)
    real = node / "private" / "real"
    path.rename(real)
    path.symlink_to(real)
    with pytest.raises(ConfigError):
        creation.read_secret(path)


@pytest.mark.threat("A5")
def test_the_account_file_is_not_edited_through_a_link(node):
    path = node / "private" / "accounts"
    real = node / "private" / "real"
    path.rename(real)
    path.symlink_to(real)
    with pytest.raises(AccountError):
        account_edits.edit(path, lambda document: None)


@pytest.mark.threat("O2")
@pytest.mark.threat("O2")
def test_links_planted_before_a_node_is_made_are_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    node = tmp_path / "node"
    (node / "private").mkdir(parents=True, mode=0o700)
    node.chmod(0o700)
    (node / "private").chmod(0o700)
    (node / "private" / "secret").symlink_to(victim)
    with pytest.raises(ConfigError):
        make_node(node)
    assert victim.read_text() == "theirs"


@pytest.mark.threat("O2")
def test_a_planted_mark_of_running_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / "running.process").symlink_to(victim)
    with pytest.raises(OSError):
        RunningFile(tmp_path).take()
    assert victim.read_text() == "theirs"


def test_the_log_file_and_its_folder_are_private(node):
    files.make_private_directory(node / "logs")
    write = logs._RotatingFile(node / "logs")
    write("a line\n")
    write.close()
    assert mode(node / "logs") == 0o700
    assert mode(node / "logs" / "truckee.log") == 0o600


def test_the_list_of_stores_is_private(node):
    assert mode(node / grid.KNOWN) == 0o600
    (node / grid.KNOWN).chmod(0o666)
    with pytest.raises(ConfigError):
        grid.read_known(node)


def test_pickles_left_by_others_are_not_opened(node):
    """Tahoe keeps states in pickles; nothing here looks at them, whatever they would do."""
    for name in ("bucket_counter.state", "lease_checker.state"):
        (node / "servers" / "00" / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    config = creation.load(node)
    assert [r.path for r in grid.stores_of(node, config.stores)] == list(config.stores)
