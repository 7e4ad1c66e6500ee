import os
import stat
from pathlib import Path

import pytest

from truckee.core import grid
from truckee.core.errors import ConfigError
from truckee.core.formats import base32
from truckee.frontends.node import creation
from truckee.frontends.node.creation import GridOptionError, GridOptions, plan


@pytest.mark.parametrize(
    ("servers", "expected"),
    [(None, (1, 1, 1)), (1, (1, 1, 1)), (2, (2, 2, 2)), (3, (3, 3, 3)), (4, (3, 4, 4))]
    + [(5, (3, 4, 5)), (10, (3, 7, 10)), (20, (3, 12, 20))],
)
def test_coding_follows_the_number_of_servers(servers, expected):
    found = plan(GridOptions(servers=servers))
    assert (found.needed, found.happy, found.total) == expected
    assert len(found.stores) == expected[2]
    assert found.stores[0] == Path("servers/00")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, (1, 1, 1)),
        (2, (1, 1, 2)),
        (3, (2, 2, 3)),
        (4, (3, 3, 4)),
        (5, (3, 4, 5)),
        (8, (6, 7, 8)),
    ],
)
def test_coding_follows_the_number_of_disks_and_the_losses_they_may_bear(count, expected):
    found = plan(GridOptions(disks=tuple(Path(f"/disk{i}") for i in range(count))))
    assert (found.needed, found.happy, found.total) == expected
    assert found.stores[0] == Path("/disk0/truckee-store")


def test_what_is_said_overrides_the_defaults():
    found = plan(GridOptions(servers=10, needed=2, happy=4, total=20))
    assert (found.needed, found.happy, found.total, len(found.stores)) == (2, 4, 20, 10)
    assert plan(GridOptions(servers=10, needed=5)).happy == 8


@pytest.mark.parametrize(
    "options",
    [
        GridOptions(servers=0),
        GridOptions(servers=256),
        GridOptions(servers=2, disks=(Path("/d"),)),
        GridOptions(servers=3, needed=4),
        GridOptions(servers=3, needed=0),
        GridOptions(servers=3, happy=4),
        GridOptions(servers=3, happy=0),
        GridOptions(servers=3, total=256),
        GridOptions(servers=3, total=9, happy=4),
        GridOptions(disks=(Path("/a,b"),)),
        GridOptions(disks=(Path("/a\nb"),)),
    ],
)
def test_options_that_cannot_be_met_are_refused(options):
    with pytest.raises(GridOptionError):
        plan(options)


def make(directory, private=None, make_stores=grid.make_stores):
    return creation.create(directory, plan(GridOptions(servers=3)), private, make_stores)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.threat("S13")
def test_a_node_directory_has_configuration_secrets_and_stores(tmp_path):
    config = make(tmp_path / "node")
    assert config.stores == tuple(tmp_path / "node" / "servers" / f"0{i}" for i in range(3))
    assert (config.needed, config.happy, config.total) == (3, 3, 3)
    assert config.ftp.enabled
    assert config.sftp.enabled
    for name in ("secret", "convergence"):
        assert len(creation.read_secret(config.private / name)) == 32
    nodeids = {(store / "nodeid").read_text() for store in config.stores}
    assert len(nodeids) == 3
    assert all(len(base32.a2b(n.strip())) == 20 for n in nodeids)
    for path in [tmp_path / "node", *(tmp_path / "node").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_keys_may_lie_elsewhere(tmp_path):
    config = make(tmp_path / "node", tmp_path / "keys")
    assert config.private == tmp_path / "keys"
    assert config.access.accounts_file == tmp_path / "keys" / "accounts"
    assert not (tmp_path / "node" / "private").exists()
    assert creation.load(tmp_path / "node") == config


def test_a_creation_killed_anywhere_is_finished_by_the_next(tmp_path, monkeypatch):
    """Fail at the nth call of link, rename or mkdir, for every n until none is reached."""
    n, reached = 0, True
    while reached:
        n, count, reached = n + 1, 0, False
        node = tmp_path / f"node{n}"
        with monkeypatch.context() as patch:
            for name in ("link", "mkdir", "fsync"):
                real = getattr(os, name)

                def broken(*args, real=real, n=n, **kwargs):
                    nonlocal count, reached
                    count += 1
                    if count == n:
                        reached = True
                        raise KeyboardInterrupt
                    return real(*args, **kwargs)

                patch.setattr(os, name, broken)
            try:
                make(node)
            except KeyboardInterrupt:
                before = contents(node) if node.exists() else {}
        config = make(node) if creation.config_path(node) is None else creation.load(node)
        assert len(config.stores) == 3
        after = contents(node)
        assert not [p for p in after if "truckee-tmp" in str(p) and p.parent.name == "private"]
        if reached:
            kept = {k: v for k, v in before.items() if "truckee-tmp" not in str(k)}
            assert {k: after[k] for k in kept if k.name != "known-stores"} == {
                k: v for k, v in kept.items() if k.name != "known-stores"
            }
    assert n > 10


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="empty folder"):
        make(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_the_same_options_are_accepted_again_and_others_are_not(tmp_path):
    config = make(tmp_path / "node")
    for same in (GridOptions(), GridOptions(servers=3), GridOptions(needed=3, total=3, happy=3)):
        creation.check_same(config, same)
    for other in (GridOptions(servers=4), GridOptions(needed=2), GridOptions(disks=(tmp_path,))):
        with pytest.raises(GridOptionError):
            creation.check_same(config, other)


def test_one_folder_by_two_names_is_no_two_disks(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    for again in (tmp_path / "a", tmp_path / "link", tmp_path / "a" / ".." / "a"):
        with pytest.raises(GridOptionError, match="twice"):
            plan(GridOptions(disks=(tmp_path / "a", again)))


@pytest.mark.parametrize("apart", [False, True])
def test_a_node_that_lost_its_configuration_does_not_get_a_made_up_one(tmp_path, apart):
    node = tmp_path / "node"
    private = tmp_path / "keys" if apart else None
    config = make(node, private)
    (node / "truckee.cfg").unlink()
    creation.check_new(node, GridOptions(), private)  # cut short before the accounts: goes on
    (config.private / "accounts").write_text("")
    with pytest.raises(ConfigError, match="put it back"):
        creation.check_new(node, GridOptions(needed=1), private)
    creation.check_new(node, GridOptions(servers=3), private)
    creation.check_new(node, GridOptions(disks=(tmp_path,)), private)


@pytest.mark.threat("O1")
@pytest.mark.parametrize("what", [".", "private", "private/secret", "private/convergence"])
@pytest.mark.threat("O1")
def test_a_node_whose_modes_let_others_in_is_refused(tmp_path, what):
    config = make(tmp_path / "node")
    creation.check_modes(config)
    path = tmp_path / "node" / what
    path.chmod(0o777 if path.is_dir() else 0o644)
    with pytest.raises(ConfigError, match="open to others"):
        creation.check_modes(config)


@pytest.mark.threat("L1")
def test_a_damaged_secret_is_told_without_showing_it(tmp_path):
    config = make(tmp_path / "node")
    (config.private / "secret").write_text("NOT BASE32\n")
    with pytest.raises(ConfigError, match="damaged") as found:
        creation.read_secret(config.private / "secret")
    assert "BASE32" not in str(found.value)
    (config.private / "secret").unlink()
    with pytest.raises(ConfigError, match="missing"):
        creation.read_secret(config.private / "secret")


@pytest.mark.threat("S13")
def test_an_empty_convergence_secret_is_legal(tmp_path):
    config = make(tmp_path / "node")
    (config.private / "convergence").write_text("")
    assert creation.read_secret(config.private / "convergence", may_be_empty=True) == b""


def test_a_disk_that_is_not_there_is_not_made(tmp_path):
    disks = plan(GridOptions(disks=(tmp_path / "absent",)))
    with pytest.raises(ConfigError, match="not there"):
        creation.create(tmp_path / "node", disks, None, grid.make_stores)
    assert not (tmp_path / "absent").exists()


def test_the_store_of_another_node_is_not_taken_over(tmp_path):
    (tmp_path / "disk").mkdir()
    disks = plan(GridOptions(disks=(tmp_path / "disk",)))
    creation.create(tmp_path / "one", disks, None, grid.make_stores)
    with pytest.raises(ConfigError, match="another node"):
        creation.create(tmp_path / "two", disks, None, grid.make_stores)
