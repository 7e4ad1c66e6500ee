"""Servers vanish and come back; shares rot. Bytes are right or the client is told."""

import ftplib
import random
import shutil

import pytest

from tests.system.node import Node
from tests.system.shares import all_shares, flip, immutable_sections, is_mutable, sdmf_sections

IMMUTABLE = [
    "version",
    "offsets",
    "data",
    "crypttext tree",
    "block tree",
    "share chain",
    "ueb length",
    "ueb",
]
MUTABLE = [
    "version",
    "seqnum",
    "root hash",
    "salt",
    "k and N",
    "sizes",
    "offsets",
    "public key",
    "signature",
    "share chain",
    "block tree",
    "data",
]

# the same in all shares, or made of hashes that others hold too: one good copy serves all
FROM_ANY_SHARE = {"crypttext tree", "ueb length", "ueb", "public key", "share chain"}


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path / "node") as node:
        yield node


def test_any_seven_servers_may_vanish_and_eight_may_not(node, tmp_path):
    chance = random.Random(7)
    files = {
        f"file {i}.bin": chance.randbytes(size) for i, size in enumerate((10, 56, 5000, 3 << 20))
    }
    for name, data in files.items():
        node.put(name, data)
    never_read = chance.randbytes(200_000)
    node.put("never read.bin", never_read)
    with node.ftp() as ftp:
        ftp.mkd("sub")
    node.put("sub/inner", b"i" * 1000)
    node.restart()

    away = tmp_path / "away"
    away.mkdir()
    gone = chance.sample(node.servers(), 7)
    for server in gone:
        shutil.move(server, away / server.name)
    for name, data in files.items():
        assert node.get(name) == data
    assert node.get("sub/inner") == b"i" * 1000

    eighth = node.servers()[0]
    shutil.move(eighth, away / eighth.name)
    with pytest.raises((ftplib.error_temp, ftplib.error_perm)) as refused:
        node.get("never read.bin")
    assert str(refused.value)[:3] in {"450", "451"}, refused.value
    assert node.process.poll() is None

    for server in gone + [eighth]:
        shutil.move(away / server.name, server)

    def back():
        try:
            return node.get("never read.bin") == never_read
        except ftplib.error_temp:
            return False

    node.wait_for(back, 40)
    node.put("written afterwards", b"w" * 1000)
    assert node.get("written afterwards") == b"w" * 1000


def test_a_vanished_store_is_not_made_anew(node):
    server = node.servers()[3]
    shutil.rmtree(server)
    node.put("after", b"a" * 5000)
    assert node.get("after") == b"a" * 5000
    assert not server.exists()
    node.restart()
    assert node.get("after") == b"a" * 5000
    assert not server.exists()


def damage(shares, section, sections_of, numbers):
    for number in numbers:
        for path in shares[number]:
            offset, length = sections_of(path)[section]
            assert length > 0, section
            flip(path, offset + length // 2)


def immutable_of_size(node, before):
    after = all_shares(node.servers())
    new = [si for si in after if si not in before]
    new = [si for si in new if not is_mutable(after[si][min(after[si])][0])]
    assert len(new) == 1
    return after[new[0]]


@pytest.mark.threat("S1")
def test_damage_in_every_section_of_an_immutable_share(node):
    chance = random.Random(1)
    tasks = []
    for section in IMMUTABLE:
        for damaged in (7, 8):
            before = set(all_shares(node.servers()))
            data = chance.randbytes(2_500_000 if section == "data" else 70_000)
            name = f"{section} {damaged}"
            node.put(name, data)
            shares = immutable_of_size(node, before)
            assert len(shares) == 10
            tasks.append((section, damaged, name, data, shares))
    node.restart()
    for section, damaged, name, data, shares in tasks:
        damage(shares, section, immutable_sections, chance.sample(range(10), damaged))
        try:
            taken = node.get(name)
        except (ftplib.error_temp, ftplib.error_proto) as refused:
            assert damaged == 8, (section, refused)
            assert str(refused)[:3] in {"450", "451", "426"}
        except (ConnectionError, EOFError):
            assert damaged == 8
        else:
            assert taken == data, section
            assert damaged == 7 or section in FROM_ANY_SHARE, section


@pytest.mark.threat("S1")
def test_damage_in_every_section_of_a_directory(node):
    chance = random.Random(2)
    tasks = []
    for section in MUTABLE:
        for damaged in (7, 8):
            before = set(all_shares(node.servers()))
            name = f"{section} {damaged}"
            with node.ftp() as ftp:
                ftp.mkd(name)
            node.put(f"{name}/child", b"c" * 30)
            after = all_shares(node.servers())
            new = [si for si in after if si not in before]
            assert len(new) == 1
            tasks.append((section, damaged, name, after[new[0]]))
    node.restart()
    for section, damaged, name, shares in tasks:
        damage(shares, section, sdmf_sections, chance.sample(range(10), damaged))
        try:
            names = node.names(name)
        except ftplib.error_temp as refused:
            assert damaged == 8, (section, refused)
            assert str(refused)[:3] in {"450", "451"}
        else:
            assert [n.split("/")[-1] for n in names] == ["child"]
            assert damaged == 7 or section in FROM_ANY_SHARE, section
    # the private key is not needed to read; to write any one good copy is enough
    before = set(all_shares(node.servers()))
    with node.ftp() as ftp:
        ftp.mkd("keys")
    (si,) = [si for si in all_shares(node.servers()) if si not in before]
    shares = all_shares(node.servers())[si]
    node.restart()
    damage(shares, "private key", sdmf_sections, range(9))
    node.put("keys/child", b"c" * 30)
    assert [n.split("/")[-1] for n in node.names("keys")] == ["child"]
