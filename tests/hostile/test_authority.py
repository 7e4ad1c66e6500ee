"""What a holder of a read capability comes to see of a tree that is full of write capabilities."""

import pytest

from tests.fakes.ftp_on_tree import TreeServer
from tests.fakes.tree import Tree
from truckee.core import traverse
from truckee.core.errors import TruckeeError
from truckee.core.formats.caps import DirectoryCap, parse_strict


def power_of(uri: bytes) -> set[str]:
    """Return the parts of a write capability that a reader must never see."""
    cap = parse_strict(uri)
    inner = cap.inner if isinstance(cap, DirectoryCap) else cap
    return {cap.text, inner.text, inner.text.split(":")[2]}


def planted(tree: Tree) -> set[str]:
    """Make two levels with mutable files of both formats and rogue links, from six keys in all."""
    powers = power_of(tree.root.get_uri())
    here = tree.root
    for level in range(2):
        below = tree.run(here.create_subdirectory(f"d{level}"))
        file = tree.run(tree.client.create_mutable_file(b"mutable", level))
        tree.run(here.set_node(f"m{level}", file))
        powers |= power_of(below.get_uri()) | power_of(file.get_uri())
        tree.run(here.set_node("again", tree.root))
        here = below
    rogue = tree.run(tree.client.create_mutable_file(b"rogue", 0))
    powers |= power_of(rogue.get_uri())
    for node in (tree.root, here):
        tree.run(node.set_uri("ro-only", None, rogue.get_readonly_uri()))
        tree.run(node.set_uri("future", b"x-new:" + rogue.get_uri(), b"ro.x-new:r"))
    return powers


@pytest.mark.threat("L7")
@pytest.mark.parametrize("kind", ["account may only read", "root is a read cap"])
def test_no_answer_to_a_reader_holds_a_write_capability(tmp_path, kind) -> None:
    tree = Tree(tmp_path)
    powers = planted(tree)
    node = tree.client.create_node_from_uri(None, tree.root.get_readonly_uri())
    session = tree.session(readonly=True)
    if kind.startswith("root"):
        session = tree.session(root=node)
    server = TreeServer(tree, session)
    said = [b""]
    for path in ("/", "/d0", "/d0/d1", "/again", "/absent"):
        for command in ("LIST", "NLST", "MLSD"):
            text, data = server.transfer(f"{command} {path}")
            said += [text.encode(), data]
        for name in ("", "/m0", "/m1", "/ro-only", "/future", "/d0"):
            for command in ("MLST", "STAT", "SIZE", "MDTM", "CWD", "DELE", "MKD", "RNFR"):
                said.append(server.ask(f"{command} {path}{name}").encode())
            text, data = server.transfer(f"RETR {path}{name}")
            said += [text.encode(), data]
    heard = b"\n".join(said).decode("utf-8", "replace")
    assert "m0" in heard
    assert [power for power in powers if power in heard] == []


@pytest.mark.threat("L7")
def test_no_node_below_a_read_capability_can_write(tmp_path) -> None:
    tree = Tree(tmp_path)
    powers = planted(tree)
    node = tree.client.create_node_from_uri(None, tree.root.get_readonly_uri())
    seen: list[str] = []

    def look(found) -> None:
        assert found.get_write_uri() is None
        assert found.is_unknown() or found.is_readonly()
        for get in (found.get_uri, found.get_readonly_uri, found.__repr__):
            seen.append(repr(get()))
        verify = found.get_verify_cap()
        if verify is not None:
            seen.append(verify.text)

    def walk(directory, depth: int) -> None:
        look(directory)
        for child, metadata in tree.run(directory.list()).values():
            look(child)
            seen.append(repr(metadata))
            if hasattr(child, "list") and depth < 3:
                walk(child, depth + 1)

    walk(node, 0)
    for start in (traverse.build_manifest, traverse.start_deep_stats):
        monitor = start(node, tree.clock)
        tree.clock.advance(1)
        seen.append(repr(monitor.status))
    assert "manifest" in "".join(seen)
    assert len(seen) > 20
    assert [power for power in powers for text in seen if power in text] == []
    for name in ("m0", "ro-only"):
        child = tree.run(node.get(name))
        with pytest.raises(TruckeeError):
            tree.run(child.overwrite(b"x"))
