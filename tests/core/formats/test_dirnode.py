"""Packed directories: round trips, damage, bounds, and authority that never grows."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core import errors
from truckee.core.crypto import hashes
from truckee.core.formats import caps, diredits, dirnode, links
from truckee.core.formats.caps import DirectoryCap

KEY = bytes(range(16))
WRITE = caps.SdmfWriteCap(bytes(16), bytes(32))
LIT = caps.LitCap(b"x")
CHK = caps.ChkReadCap(bytes(16), bytes(32), 3, 10, 1000)

_known = st.sampled_from(
    [
        LIT,
        CHK,
        WRITE,
        WRITE.read_cap(),
        caps.MdmfWriteCap(bytes(16), bytes(32)),
        DirectoryCap(WRITE),
        DirectoryCap(WRITE.read_cap()),
        DirectoryCap(CHK),
        DirectoryCap(LIT),
    ]
)
_opaque = st.builds(
    lambda w, r: links.UnknownLink(w, b"ro." + r),
    st.none() | st.sampled_from([b"x-w:1", b"ro.x-w", b"imm.x-w"]),
    st.sampled_from([b"x-r:1", b"x"]),
)
_names = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("e\u0301é/.\0\n"), max_size=12
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_metadata = st.dictionaries(st.text(max_size=5), _json, max_size=3)
_children = st.dictionaries(_names, st.tuples(_known | _opaque, _metadata), max_size=6)


def _ns(data: bytes) -> bytes:
    return b"%d:%b," % (len(data), data)


def entry(name: bytes, read: bytes = b"URI:LIT:me", write: bytes = b"", metadata: bytes = b"{}"):
    return _ns(_ns(name) + _ns(read) + _ns(write) + _ns(metadata))


@given(_children)
def test_what_is_packed_is_listed(children: dict[str, Any]) -> None:
    packed = dirnode.pack(children, writekey=KEY)
    expected = {unicodedata.normalize("NFC", n): child for n, child in children.items()}
    table = dirnode.Table(packed, writekey=KEY)
    found = {name: (c.target, c.metadata) for name, c in table.iterate()}
    assert found == expected
    assert list(found) == sorted(expected)
    assert dirnode.Editor(packed, KEY).pack() == packed


@pytest.mark.threat("L7")
@given(_children)
def test_readers_get_read_caps_only(children: dict[str, Any]) -> None:
    table = dirnode.Table(dirnode.pack(children, writekey=KEY))
    assert len(table.children()) == len({unicodedata.normalize("NFC", n) for n in children})
    for _, child in table.iterate():
        assert links.write_text(child.target) is None
    assert WRITE.text.encode() not in dirnode.pack(children, writekey=KEY)


_slot = st.none() | st.builds(
    lambda prefix, text: prefix + text,
    st.sampled_from([b"", b"ro.", b"imm.", b"ro.ro.", b"imm.ro."]),
    st.sampled_from(
        [
            WRITE.text.encode(),
            WRITE.read_cap().text.encode(),
            WRITE.verify_cap().text.encode(),
            DirectoryCap(WRITE).text.encode(),
            CHK.text.encode(),
            CHK.verify_cap().text.encode(),
            b"URI:SSK:bad",
            b"x:y",
            b"\xff",
            b"",
        ]
    ),
)


@pytest.mark.threat("U7")
@given(_slot, _slot, st.booleans())
def test_authority_never_grows(write: bytes | None, read: bytes | None, deep: bool) -> None:
    target = links.resolve(write, read, deep_immutable=deep)
    got = links.write_text(target)
    if got is not None:
        assert write == got  # only what stood in the write slot, verbatim or canonical
        assert not deep
    weaker = links.read_text(links.diminished(target)) or b""
    assert links.write_text(links.diminished(target)) is None
    known = caps.parse(weaker.removeprefix(b"ro.").removeprefix(b"imm."))
    if not isinstance(known, caps.UnknownCap) and not (read or b"").startswith((b"ro.", b"imm.")):
        assert known.is_readonly
    if deep and not isinstance(target, links.UnknownLink):
        assert not target.is_mutable


@given(_slot, _slot)
def test_storing_and_reading_a_link_gives_the_same_or_less(
    write: bytes | None, read: bytes | None
) -> None:
    target = links.resolve(write, read)
    try:
        packed = dirnode.pack({"n": (target, {})}, writekey=KEY)
    except errors.TruckeeError:
        return
    child = dirnode.Table(packed, writekey=KEY).child("n")
    if child is not None:
        assert links.write_text(child.target) in {None, links.write_text(target)}
    seen = dirnode.Table(packed).child("n")
    if seen is not None:
        assert links.write_text(seen.target) is None


@pytest.mark.threat("U5")
@given(_children, st.data())
def test_damage_is_refused_or_hidden_and_never_raises_anything_else(
    children: dict[str, Any], data: st.DataObject
) -> None:
    packed = bytearray(dirnode.pack(children, writekey=KEY))
    for _ in range(data.draw(st.integers(1, 3))):
        if packed:
            packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        editor = dirnode.Editor(bytes(packed), KEY)
    except errors.DirectoryFormatError:
        return
    editor.children()
    assert sorted(e.raw for e in dirnode.split(editor.pack())) == sorted(
        e.raw for e in dirnode.split(bytes(packed))
    )


_pieces = st.sampled_from([b"0:,", b"1:a,", b"9:", b"12:", b",", b":", b"{}", b"00:,", b"3:0:,,"])


@given(st.binary(max_size=60) | st.lists(_pieces, max_size=12).map(b"".join))
def test_any_bytes_are_a_directory_or_refused_by_name(data: bytes) -> None:
    for writekey in (None, KEY):
        try:
            table = dirnode.Table(data, writekey=writekey)
        except errors.DirectoryFormatError:
            continue
        assert len(table.children()) + table.hidden == table.count


@given(_children, _names)
def test_an_edit_copies_all_other_entries(children: dict[str, Any], name: str) -> None:
    packed = dirnode.pack(children, writekey=KEY)
    batch = diredits.Batch([diredits.SetLinks({name: (CHK, None)})], KEY, 5.0)
    after = batch(packed)
    assert after is not None
    name = unicodedata.normalize("NFC", name)
    kept = {e.raw for e in dirnode.split(packed) if e.name != name}
    assert {e.raw for e in dirnode.split(after) if e.name != name} == kept


def test_odd_json_old_macs_and_trailing_spaces_survive_an_edit() -> None:
    odd = entry(b"a", b"URI:LIT:me  ", b"", b'{ "z" :1.50, "tahoe":[] }')
    odd += entry(b"b", write=dirnode.encrypt_write_cap(b"", KEY)[:-32] + bytes(32))
    batch = diredits.Batch([diredits.SetLinks({"c": (LIT, None)})], KEY, 5.0)
    after = batch(odd)
    assert after is not None
    assert after.startswith(odd)
    child = dirnode.Table(after, writekey=KEY).child("a")
    assert child is not None
    assert child.target == caps.LitCap(b"a")


@pytest.mark.parametrize(
    "bad",
    [
        entry(b"x", b"URI:SSK:garbage"),
        entry(b"x", metadata=b"[]"),
        entry(b"x", metadata=b"{"),
        entry(b"x", metadata=b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"),
        entry(b"x", metadata=b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}"),
        entry(b"x", metadata=b'{"a":"' + b"y" * 70000 + b'"}'),
        entry(b"x", metadata=b'{"a":' + b"9" * 5000 + b"}"),
        entry(b"x", metadata=b"\xff{}"),
        entry(b"x", CHK.verify_cap().text.encode()),
        entry(b"\xff\xfe"),
        entry(b"n" * 4097),
        _ns(_ns(b"x") + _ns(b"URI:LIT:me")),
        _ns(b""),
        _ns(b"99999999:x,"),
    ],
    ids=lambda b: repr(b[:40]),
)
def test_an_entry_that_breaks_a_rule_is_hidden_and_kept(bad: bytes) -> None:
    packed = entry(b"a") + bad + entry(b"z")
    table = dirnode.Table(packed, writekey=KEY)
    assert list(table.children()) == ["a", "z"]
    assert table.hidden == 1
    batch = diredits.Batch([diredits.Delete("a")], KEY, 1.0)
    after = batch(packed)
    assert after is not None
    assert sorted(e.raw for e in dirnode.split(after)) == sorted([bad, entry(b"z")])


def test_a_hidden_entry_is_not_replaced_by_accident_and_goes_when_deleted() -> None:
    packed = entry(b"x", b"URI:SSK:garbage")
    for overwrite in (False, "only-files"):
        batch = diredits.Batch([diredits.SetLinks({"x": (LIT, None)}, overwrite)], KEY, 1.0)
        assert batch(packed) is None
        assert isinstance(batch.outcomes[0].error, errors.ExistingChildError)
    assert diredits.Batch([diredits.SetLinks({"x": (LIT, None)})], KEY, 1.0)(packed) is not None
    assert diredits.Batch([diredits.Delete("x")], KEY, 1.0)(packed) == b""


def test_the_last_of_two_equal_names_wins_and_both_leave_together() -> None:
    first, last = entry("é".encode()), entry("e\u0301".encode(), b"URI:LIT:mi")
    table = dirnode.Table(first + last, writekey=KEY)
    child = table.child("é")
    assert child is not None
    assert child.target == caps.LitCap(b"b")
    assert table.hidden == 1
    assert dirnode.Editor(first + last, KEY).pack() == first + last
    assert diredits.Batch([diredits.Delete("e\u0301")], KEY, 1.0)(first + last) == b""


@pytest.mark.parametrize(
    "packed",
    [
        b"99999999999999:",
        b"5:abc",
        b"3:abc;",
        b"03:abc,",
        b"x",
        b":,",
        b"+3:abc,",
        b"-1:,",
        b"1_0:",
    ],
)
def test_broken_framing_is_an_error_of_the_whole_directory(packed: bytes) -> None:
    with pytest.raises(errors.DirectoryFormatError):
        dirnode.split(packed)


@pytest.mark.threat("U5")
def test_bounds_of_a_directory_hold_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirnode, "MAX_ENTRIES", 3)
    three = entry(b"a") + entry(b"b") + entry(b"c")
    with pytest.raises(errors.DirectoryFormatError):
        dirnode.split(three + entry(b"d"))
    batch = diredits.Batch(
        [diredits.SetLinks({"d": (LIT, None)}), diredits.Rename("a", "e")], KEY, 1.0
    )
    after = batch(three)
    assert isinstance(batch.outcomes[0].error, errors.FileTooLargeError)
    assert after is not None
    assert list(dirnode.Table(after).children()) == ["b", "c", "e"]
    monkeypatch.setattr(dirnode, "MAX_PACKED", 10)
    with pytest.raises(errors.FileTooLargeError):
        dirnode.pack({"a": (LIT, {})}, writekey=KEY)


@pytest.mark.parametrize("name", ["n" * 4097, "é" * 2049, "\ud800"])
def test_names_that_cannot_be_stored_are_refused(name: str) -> None:
    batch = diredits.Batch([diredits.SetLinks({name: (LIT, None)})], KEY, 1.0)
    assert batch(b"") is None
    assert isinstance(batch.outcomes[0].error, errors.BadNameError)


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": "x" * 70000}, {"a": "\udc80" * 20000}])
def test_metadata_that_cannot_be_stored_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(errors.DirectoryFormatError):
        dirnode.pack_metadata(metadata)


@pytest.mark.threat("U5")
def test_unclosed_strings_do_not_slow_the_depth_check() -> None:
    raw = b'{"a":' + b"[" * 40 + b'"\\' * 30000
    with pytest.raises(errors.DirectoryFormatError):
        dirnode.parse_metadata(raw)


class TestBatches:
    def run(self, packed: bytes, *edits: diredits.Edit) -> tuple[diredits.Batch, bytes | None]:
        batch = diredits.Batch(edits, KEY, 9.0)
        return batch, batch(packed)

    def test_an_edit_that_fails_fails_alone(self) -> None:
        batch, after = self.run(
            entry(b"a"),
            diredits.Delete("nope"),
            diredits.SetLinks({"b": (LIT, None)}),
            diredits.SetLinks({"c": (LIT, None), "a": (LIT, None)}, False),
        )
        assert after is not None
        assert list(dirnode.Table(after).children()) == ["a", "b"]
        kinds = [type(o.error).__name__ for o in batch.outcomes]
        assert kinds == ["NoSuchChildError", "NoneType", "ExistingChildError"]

    def test_nothing_is_written_when_every_edit_fails(self) -> None:
        assert self.run(entry(b"a"), diredits.Delete("x"))[1] is None

    def test_edits_see_each_other_in_order(self) -> None:
        batch, after = self.run(
            b"",
            diredits.SetLinks({"a": (CHK, {"k": 1})}),
            diredits.Rename("a", "b"),
            diredits.SetMetadata("b", {"k": 2}),
        )
        assert after is not None
        assert all(o.error is None for o in batch.outcomes)
        child = dirnode.Table(after, writekey=KEY).child("b")
        assert child is not None
        assert child.metadata == {"k": 2, "tahoe": {"linkcrtime": 9.0, "linkmotime": 9.0}}

    def test_after_a_collision_own_results_are_recognised(self) -> None:
        edits = [
            diredits.SetLinks({"new": (CHK, None)}, False),
            diredits.Delete("gone"),
            diredits.Rename("old", "moved", False),
        ]
        before = entry(b"gone") + entry(b"old", b"URI:LIT:mi")
        batch = diredits.Batch(edits, KEY, 9.0)
        landed = batch(before)
        assert landed is not None
        again = batch(landed + entry(b"zz"))  # ours landed after all, beside somebody else's
        assert [o.error for o in batch.outcomes] == [None, None, None]
        assert again is not None
        assert list(dirnode.Table(again).children()) == ["moved", "new", "zz"]
        moved = batch.outcomes[2].child
        assert moved is not None
        assert moved.target == caps.LitCap(b"b")

    def test_after_a_collision_a_strangers_child_is_not_taken_for_ours(self) -> None:
        batch = diredits.Batch([diredits.SetLinks({"new": (CHK, None)}, False)], KEY, 9.0)
        assert batch(b"") is not None
        assert batch(entry(b"new")) is None
        assert isinstance(batch.outcomes[0].error, errors.ExistingChildError)

    def test_an_edit_that_failed_first_is_judged_anew(self) -> None:
        batch = diredits.Batch([diredits.SetLinks({"new": (CHK, None)}, False)], KEY, 9.0)
        packed = dirnode.pack({"new": (CHK, {})}, writekey=KEY)
        assert batch(packed) is None
        assert batch(packed) is None
        assert isinstance(batch.outcomes[0].error, errors.ExistingChildError)
        assert batch(b"") is not None
        assert batch.outcomes[0].error is None

    def test_a_rename_replaces_only_what_it_may(self) -> None:
        directory = DirectoryCap(WRITE).text.encode()
        packed = entry(b"d", directory) + entry(b"f") + entry(b"g", b"URI:LIT:mi")
        for overwrite, target in ((False, "f"), (False, "d"), ("only-files", "d")):
            batch, after = self.run(packed, diredits.Rename("g", target, overwrite))
            assert after is None
            assert isinstance(batch.outcomes[0].error, errors.ExistingChildError)
        _, after = self.run(packed, diredits.Rename("g", "f", "only-files"))
        assert after is not None
        assert list(dirnode.Table(after).children()) == ["d", "f"]

    def test_a_rename_to_the_same_name_changes_nothing(self) -> None:
        packed = entry("é".encode())
        batch, after = self.run(packed, diredits.Rename("e\u0301", "é"))
        assert after is None
        assert batch.outcomes[0].error is None

    def test_a_guarded_delete_leaves_another_child_alone(self) -> None:
        packed = entry(b"a", b"URI:LIT:mi")
        assert self.run(packed, diredits.Delete("a", only_if=LIT))[1] is None
        assert self.run(packed, diredits.Delete("a", only_if=caps.LitCap(b"b")))[1] == b""


def test_the_inverse_key_schedule_is_the_specified_one() -> None:
    salt = hashes.child_rwcap_salt(b"w")
    assert dirnode.encrypt_write_cap(b"w", KEY)[:16] == salt
