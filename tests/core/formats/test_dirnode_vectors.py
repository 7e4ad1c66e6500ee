"""Directories as Tahoe-LAFS 1.20 packs, changes and reads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from truckee.core import errors
from truckee.core.formats import caps, diredits, dirnode, links

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "directories.json").read_text("utf-8")
)
WRITE = "URI:SSK:uxng4xpc64efkrmykrapajsxwm:pdi2cz2bf6xgnri5j6oavgmz5rhkuzxdoo7t46lml7xetk7trggq"
READ = "URI:SSK-RO:55havo5gugdkuqhncaqsjizfya:pdi2cz2bf6xgnri5j6oavgmz5rhkuzxdoo7t46lml7xetk7trggq"
CHK = (
    "URI:CHK:aaaqeayeaudaocajbifqydiob4:aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"
    ":3:10:12345"
)


def raw(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def kind(target: links.Target) -> str:
    match target:
        case links.UnknownLink():
            return "UnknownNode"
        case caps.DirectoryCap():
            return "DirectoryNode"
        case caps.LitCap():
            return "LiteralFileNode"
        case caps.ChkReadCap():
            return "ImmutableFileNode"
        case _:
            return "MutableFileNode"


def shown(target: links.Target) -> dict[str, Any]:
    write, read = links.write_text(target), links.read_text(target)
    error = target.error if isinstance(target, links.UnknownLink) else None
    return {
        "kind": kind(target),
        "rw_uri": write and write.decode(),
        "ro_uri": read and read.decode(),
        "error": error and type(error).__name__,
    }


def listing(table: dirnode.Table) -> dict[str, Any]:
    return {
        name: {**shown(child.target), "metadata": child.metadata} for name, child in table.iterate()
    }


def target_of(node: dict[str, Any], *, deep: bool = False) -> links.Target:
    return links.resolve(raw(node["rw_uri"]), raw(node["ro_uri"]), deep_immutable=deep)


@pytest.mark.parametrize("case", VECTORS["rwcapdata"], ids=lambda c: c["rw_uri"][:12])
def test_write_caps_are_encrypted_as_the_peer_does(case: dict[str, str]) -> None:
    writekey, write = bytes.fromhex(case["writekey"]), case["rw_uri"].encode()
    field = dirnode.encrypt_write_cap(write, writekey)
    assert field.hex() == case["rwcapdata"] == case["salt"] + case["ciphertext"] + case["mac"]
    assert dirnode.decrypt_write_cap(field, writekey) == write


def test_the_mac_of_a_write_cap_is_not_asked_for() -> None:
    field = dirnode.encrypt_write_cap(b"URI:x", bytes(16))[:-32] + bytes(32)
    assert dirnode.decrypt_write_cap(field, bytes(16)) == b"URI:x"


def test_a_mutable_directory_packs_to_the_same_bytes() -> None:
    vector = VECTORS["mutable_dir"]
    children = {c["name"]: (target_of(c["node"]), c["metadata"]) for c in vector["children"]}
    packed = dirnode.pack(children, writekey=bytes.fromhex(vector["writekey"]))
    assert packed.hex() == vector["packed"]


@pytest.mark.parametrize("view", ["write", "read"])
def test_a_mutable_directory_lists_as_the_peer_lists_it(view: str) -> None:
    vector = VECTORS["mutable_dir"]
    writekey = bytes.fromhex(vector["writekey"]) if view == "write" else None
    table = dirnode.Table(bytes.fromhex(vector["packed"]), writekey=writekey)
    assert listing(table) == vector[f"unpacked_with_{view}_cap"]


@pytest.mark.parametrize("case", VECTORS["strip_prefix_for_ro"], ids=lambda c: c["ro"])
def test_one_prefix_is_stripped_where_the_context_restores_it(case: dict[str, Any]) -> None:
    stored = links.strip_prefix(case["ro"].encode(), deep_immutable=case["deep_immutable"])
    assert stored.decode() == case["result"]


@pytest.mark.parametrize("case", VECTORS["update_metadata"]["cases"])
def test_metadata_is_updated_by_the_peers_rule(case: dict[str, Any]) -> None:
    updated = dirnode.update_metadata(case["old"], case["new"], VECTORS["update_metadata"]["now"])
    assert updated == case["result"]
    assert list(updated) == list(case["result"])


@pytest.mark.threat("U7")
@pytest.mark.parametrize("case", VECTORS["create_from_cap"])
def test_slots_resolve_as_the_peer_does_but_never_to_a_write_cap_from_the_read_slot(
    case: dict[str, Any],
) -> None:
    deep = case["deep_immutable"]
    target = links.resolve(raw(case["given_rw"]), raw(case["given_ro"]), deep_immutable=deep)
    expected = {key: case[key] for key in ("kind", "rw_uri", "ro_uri", "error")}
    if case["given_ro"] == WRITE:  # the peer takes it for a write cap; here it only reads
        if case["given_rw"] is None and not deep:
            assert expected["rw_uri"] == WRITE
            expected["rw_uri"] = None
        if expected["ro_uri"] == f"ro.{WRITE}":
            expected["ro_uri"] = f"ro.{READ}"
    assert shown(target) == expected
    assert links.allowed_in_immutable(target) is case["allowed_in_immutable"]


@pytest.mark.parametrize("case", VECTORS["diminish"], ids=lambda c: c["type"])
def test_caps_diminish_as_the_peers_do(case: dict[str, Any]) -> None:
    cap = caps.parse_strict(case["cap"])
    verify = cap.verify_cap()
    expected = case["cap"] if case["verifycap"] == "!AssertionError" else case["verifycap"]
    assert cap.read_cap().text == case["readcap"]
    assert (verify and verify.text) == expected
    assert (cap.storage_index and cap.storage_index.hex()) == case["storage_index"]
    assert (cap.is_readonly, cap.is_mutable) == (case["readonly"], case["mutable"])


def _base() -> bytes:
    return bytes.fromhex(VECTORS["modify_base"])


_CHK = links.resolve(None, CHK.encode())
_MUTABLE = VECTORS["mutable_dir"]["unpacked_with_write_cap"]
_N = target_of({"rw_uri": None, "ro_uri": None})


def _new_target(case: dict[str, Any]) -> links.Target:
    """The child that the peer added is not named in the vector, but can be read back."""
    writekey = bytes.fromhex(VECTORS["modify"]["writekey"])
    child = dirnode.Table(bytes.fromhex(case["result"]), writekey=writekey).child("n")
    assert child is not None
    return child.target


def _edit(description: str, n: links.Target) -> tuple[diredits.Edit, bool]:
    def add(name: str, target: links.Target, metadata: Any, overwrite: Any = True) -> Any:
        return diredits.SetLinks({name: (target, metadata)}, overwrite), False

    match description.partition(" (")[0].partition(":")[0], description:
        case _, "add new 'n' metadata None overwrite True":
            return add("n", n, None)
        case "add new 'n' metadata {'x'", _:
            return add("n", n, {"x": 1, "tahoe": {"linkcrtime": 1}})
        case "replace 'a', metadata None", _:
            return add("a", _CHK, None)
        case "replace 'old' metadata {}", _:
            return add("old", _CHK, {})
        case "replace 'a' overwrite False", _:
            return add("a", _CHK, None, False)
        case "replace 'd' only-files", _:
            return add("d", _CHK, None, "only-files")
        case "replace 'a' only-files", _:
            return add("a", _CHK, None, "only-files")
        case "replace unknown 'u' only-files", _:
            return add("u", _CHK, None, "only-files")
        case "add 'nw' with no-write true", _:
            return add("nw", n, {"no-write": True})
        case "add child with error", _:
            return add("e", links.resolve(b"x:w", None), None)
        case "delete 'a'", _:
            return diredits.Delete("a"), False
        case "delete missing", _:
            return diredits.Delete("missing"), False
        case "delete missing, not first try", _:
            return diredits.Delete("missing"), True
        case "delete missing, must_exist False", _:
            return diredits.Delete("missing", must_exist=False), False
        case "delete 'a' must_be_directory", _:
            return diredits.Delete("a", must_be_directory=True), False
        case "delete 'd' must_be_file", _:
            return diredits.Delete("d", must_be_file=True), False
        case "delete unknown 'u' must_be_file", _:
            return diredits.Delete("u", must_be_file=True), False
        case "set metadata 'd' {'q'", _:
            return diredits.SetMetadata("d", {"q": 1}), False
        case "set metadata 'd' {'no-write'", _:
            return diredits.SetMetadata("d", {"no-write": True}), False
        case "set metadata missing", _:
            return diredits.SetMetadata("missing", {}), False
    raise AssertionError(description)


@pytest.mark.parametrize("case", VECTORS["modify"]["cases"], ids=lambda c: c["desc"])
def test_edits_give_the_peers_bytes(case: dict[str, Any]) -> None:
    vector = VECTORS["modify"]
    n = _new_target(vector["cases"][0])
    edit, again = _edit(case["desc"], n)
    batch = diredits.Batch([edit], bytes.fromhex(vector["writekey"]), vector["now"])
    batch.outcomes[0].applied = again
    result = batch(_base())
    error = batch.outcomes[0].error
    assert (error and type(error).__name__) == case.get("error")
    assert (result and result.hex()) == case.get("result")


@pytest.mark.parametrize("case", VECTORS["immutable_dirs"]["cases"], ids=lambda c: c["desc"])
def test_immutable_directories_pack_and_list_as_the_peers(case: dict[str, Any]) -> None:
    children = {c["name"]: (target_of(c, deep=True), c["metadata"]) for c in case["children"]}
    if "error" in case:
        with pytest.raises(getattr(errors, case["error"])):
            dirnode.pack(children, writekey=None)
        return
    packed = dirnode.pack(children, writekey=None)
    assert packed.hex() == case["packed"]
    assert listing(dirnode.Table(packed, deep_immutable=True)) == case["listing"]


@pytest.mark.threat("U7")
def test_a_mutable_child_of_an_immutable_directory_is_hidden() -> None:
    case = VECTORS["rogue_immutable_dirs"][0]
    table = dirnode.Table(bytes.fromhex(case["packed"]), deep_immutable=True)
    assert listing(table) == case["listing"]
    assert table.hidden == 1


def test_an_immutable_directory_with_a_write_cap_field_is_refused() -> None:
    packed = bytes.fromhex(VECTORS["rogue_immutable_dirs"][1]["packed"])
    with pytest.raises(errors.DirectoryFormatError):
        dirnode.Table(packed, deep_immutable=True)
