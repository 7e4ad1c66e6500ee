import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core.crypto.hashes import tagged_hash
from truckee.core.errors import BadHashError, FormatError, NotEnoughHashesError
from truckee.core.formats import hashtree
from truckee.core.formats.hashtree import PartialTree
from truckee.core.formats.numbers import parse_decimal

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
IMMUTABLE = json.loads((VECTORS / "immutable.json").read_text())
MUTABLE = json.loads((VECTORS / "mutable.json").read_text())


def leaves(count):
    return [tagged_hash(b"leaf", b"%d" % i) for i in range(count)]


@pytest.mark.parametrize("tree", IMMUTABLE["hash_tree"]["trees"])
def test_a_built_tree_equals_tahoes(tree):
    given_leaves = [bytes.fromhex(x) for x in tree["leaves_hex"]]
    assert given_leaves == leaves(len(given_leaves))
    nodes = hashtree.build(given_leaves)
    assert [node.hex() for node in nodes] == tree["nodes_hex"]
    assert nodes[0].hex() == tree["root_hex"]
    assert hashtree.padded_leaves(len(given_leaves)) - 1 == tree["first_leaf"]
    for leaf, chain in enumerate(tree["chain_for_leaf"]):
        assert hashtree.chain_numbers(len(given_leaves), leaf, include_leaf=True) == chain


@pytest.mark.parametrize("tree", MUTABLE["hashes"]["trees"])
def test_trees_of_mutable_files_are_the_same_trees_and_know_no_leaves(tree):
    nodes = hashtree.build([bytes.fromhex(x) for x in tree["leaves"]])
    assert [node.hex() for node in nodes] == tree["nodes"]


@pytest.mark.parametrize("case", MUTABLE["hashes"]["needed_for_leaf"])
def test_chains_without_leaf_equal_tahoes(case):
    chain = hashtree.chain_numbers(case["leaves"], case["leaf"], include_leaf=False)
    assert chain == sorted(case["nodes"])


@pytest.mark.parametrize("case", IMMUTABLE["share_chain_write_order"])
def test_chains_hold_the_nodes_that_tahoe_writes(case):
    for shnum, order in case["orders"].items():
        chain = hashtree.chain_numbers(case["total_shares"], int(shnum), include_leaf=True)
        assert chain == sorted(order)


@given(st.integers(1, 40), st.data())
def test_any_order_of_leaves_fills_a_tree_with_chains(count, data):
    whole = hashtree.build(leaves(count))
    tree = PartialTree(count, whole[0])
    for leaf in data.draw(st.permutations(range(count))):
        include = data.draw(st.booleans())
        missing = tree.missing_for_leaf(leaf, include_leaf=include)
        chain = set(hashtree.chain_numbers(count, leaf, include_leaf=include))
        assert missing <= chain
        tree.add({n: whole[n] for n in missing}, {leaf: leaves(count)[leaf]})
        assert tree.leaf(leaf) == leaves(count)[leaf]
        assert not tree.missing_for_leaf(leaf, include_leaf=True)
    for number in range(len(whole)):
        assert tree.node(number) in {None, whole[number]}


@given(st.integers(2, 40), st.data())
def test_a_damaged_node_is_refused_and_nothing_of_its_batch_is_kept(count, data):
    whole = hashtree.build(leaves(count))
    tree = PartialTree(count, whole[0])
    leaf = data.draw(st.integers(0, count - 1))
    batch = {n: whole[n] for n in tree.missing_for_leaf(leaf, include_leaf=True)}
    victim = data.draw(st.sampled_from(sorted(batch)))
    bad = bytearray(batch[victim])
    bad[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadHashError):
        tree.add({**batch, victim: bytes(bad)})
    assert len(tree) == 1
    tree.add(batch)
    with pytest.raises(BadHashError):
        tree.add({victim: bytes(bad)})


@given(st.integers(2, 40), st.data())
def test_a_missing_sibling_is_named_and_nothing_is_kept(count, data):
    whole = hashtree.build(leaves(count))
    tree = PartialTree(count, whole[0])
    leaf = data.draw(st.integers(0, count - 1))
    batch = {n: whole[n] for n in tree.missing_for_leaf(leaf, include_leaf=True)}
    del batch[data.draw(st.sampled_from(sorted(batch)))]
    if batch:
        with pytest.raises(NotEnoughHashesError):
            tree.add(batch)
    assert len(tree) == 1


def test_a_whole_tree_is_taken_at_once():
    whole = hashtree.build(leaves(100))
    tree = PartialTree(100, whole[0])
    tree.add(dict(enumerate(whole)))
    assert len(tree) == len(whole) == hashtree.node_count(100)


def test_a_root_is_never_taken_from_a_batch():
    whole = hashtree.build(leaves(3))
    tree = PartialTree(3)
    with pytest.raises(NotEnoughHashesError):
        tree.add(dict(enumerate(whole)))
    assert tree.node(0) is None
    with pytest.raises(NotEnoughHashesError):
        PartialTree(1).add({0: whole[0]})
    tree.set_root(whole[0])
    tree.set_root(whole[0])
    with pytest.raises(BadHashError):
        tree.set_root(whole[1])
    tree.add(dict(enumerate(whole)))


@pytest.mark.parametrize(
    ("nodes", "tree_leaves"),
    [
        ({-1: b"a" * 32}, {}),
        ({7: b"a" * 32}, {}),
        ({1: b"a" * 31}, {}),
        ({}, {4: b"a" * 32}),
        ({}, {-1: b"a" * 32}),
        ({3: b"a" * 32}, {0: b"b" * 32}),
    ],
)
def test_nodes_outside_the_tree_or_of_wrong_length_are_bad(nodes, tree_leaves):
    tree = PartialTree(3, hashtree.build(leaves(3))[0])
    with pytest.raises(BadHashError):
        tree.add(nodes, tree_leaves)
    assert len(tree) == 1


def test_a_single_leaf_is_the_root():
    tree = PartialTree(1, leaves(1)[0])
    assert tree.leaf(0) == leaves(1)[0]
    assert not tree.missing_for_leaf(0, include_leaf=True)
    tree.add({0: leaves(1)[0]}, {0: leaves(1)[0]})
    with pytest.raises(BadHashError):
        tree.add({}, {0: leaves(2)[1]})


@pytest.mark.threat("U2")
def test_a_tree_claimed_to_have_2_to_the_60_leaves_costs_nothing():
    tree = PartialTree(2**60, b"r" * 32)
    assert len(tree.missing_for_leaf(2**59, include_leaf=True)) == 61
    with pytest.raises(BadHashError):
        tree.add(dict.fromkeys(tree.missing_for_leaf(5, include_leaf=True), b"x" * 32))


@pytest.mark.parametrize(("raw", "value"), [(b"0", 0), (b"007", 7), (b"100", 100)])
def test_decimal_numbers_are_read(raw, value):
    assert parse_decimal(raw, 100) == value


@pytest.mark.parametrize(
    "raw",
    [b"", b"-1", b"+1", b" 1", b"1\n", b"1_0", b"101", b"0x1", "١".encode(), b"0" * 21, b"1.0"],
)
def test_everything_else_is_no_number(raw):
    with pytest.raises(FormatError):
        parse_decimal(raw, 100)
