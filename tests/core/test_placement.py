import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truckee.core import placement
from truckee.core.errors import FormatError

GRID = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "grid.json").read_text())


@dataclass(frozen=True)
class Server:
    server_id: bytes
    permutation_seed: bytes


SERVERS = [
    Server(b"%d" % seed["n"], bytes.fromhex(seed["seed_hex"]))
    for seed in GRID["permutation"]["seeds"]
]


@pytest.mark.parametrize("case", GRID["permutation"]["cases"], ids=lambda c: c["name"])
def test_servers_are_permuted_as_by_tahoe(case):
    order = placement.permuted(SERVERS, bytes.fromhex(case["storage_index_hex"]))
    assert [int(s.server_id) for s in order] == case["order"]


def test_preferred_servers_come_first():
    case = GRID["permutation"]["preferred"]
    index = bytes(range(16))
    order = placement.permuted(SERVERS, index, preferred={b"7", b"2"})
    assert [int(s.server_id) for s in order] == case["order"]


@pytest.mark.parametrize("case", GRID["permutation_seed_from_announcement"])
def test_permutation_seeds_equal_tahoes(case):
    announced = case["announcement"].get("permutation-seed-base32")
    seed = placement.permutation_seed(case["server_id"], announced)
    assert seed.hex() == case["permutation_seed_hex"]


def test_a_malformed_announced_seed_is_refused_and_a_malformed_key_hashed():
    with pytest.raises(FormatError):
        placement.permutation_seed("v0-a", "A")
    assert len(placement.permutation_seed("v0-" + "9" * 52)) == 32


@pytest.mark.parametrize("case", GRID["servers_of_happiness"])
def test_happiness_equals_tahoes(case):
    assert placement.happiness(case["sharemap"]) == case["happiness"]


@pytest.mark.parametrize("case", GRID["failure_message"])
def test_failures_are_told_in_tahoes_words(case):
    text = placement.failure_text(
        case["peer_count"], case["k"], case["happy"], case["effective_happy"]
    )
    assert text == case["text"]


LAYOUTS = st.dictionaries(
    st.integers(0, 5), st.sets(st.sampled_from("abcde"), max_size=5), max_size=6
)


def best_by_trying_all(layout):
    shares = [s for s in layout if layout[s]]
    for size in range(len(shares), 0, -1):
        for some in itertools.combinations(shares, size):
            for pick in itertools.product(*(sorted(layout[s]) for s in some)):
                if len(set(pick)) == size:
                    return size
    return 0


@given(LAYOUTS)
def test_a_matching_is_as_large_as_any(layout):
    found = placement.matching(layout)
    assert len(found) == best_by_trying_all(layout)
    assert len(set(found.values())) == len(found)
    assert all(server in layout[shnum] for shnum, server in found.items())


@st.composite
def grids(draw):
    names = list(range(draw(st.integers(0, 7))))
    total = draw(st.integers(1, 8))
    writable = [n for n in names if draw(st.booleans())]
    readonly = [n for n in names if n not in writable]
    held = {n: draw(st.sets(st.integers(0, total + 1), max_size=total)) for n in names}
    return total, writable, readonly, held


@given(grids())
def test_an_assignment_is_as_happy_as_any_and_complete(grid):
    total, writable, readonly, held = grid
    placed = placement.assign(total, writable, readonly, held)
    for shnum, server in placed.items():
        assert 0 <= shnum < total
        assert server in writable or shnum in held[server]
    held_somewhere = {shnum for shnums in held.values() for shnum in shnums if shnum < total}
    assert set(placed) == (set(range(total)) if writable else held_somewhere)
    everything = {
        shnum: [*writable, *(s for s in readonly if shnum in held[s])] for shnum in range(total)
    }
    reached = {shnum: {s for s in held if shnum in held[s]} | {placed[shnum]} for shnum in placed}
    assert placement.happiness(reached) == placement.happiness(everything)


def test_an_empty_grid_gets_one_share_per_server_in_permuted_order():
    assert placement.assign(3, ["a", "b", "c"], [], {}) == {0: "a", 1: "b", 2: "c"}
    spread = placement.assign(10, ["a", "b", "c"], [], {})
    counts = [list(spread.values()).count(s) for s in "abc"]
    assert counts == [4, 3, 3]


def test_a_share_goes_only_to_a_server_that_holds_it_or_can_take_it():
    placed = placement.assign(2, [], ["a", "b"], {"a": {0}, "b": {0, 1}})
    assert placed == {0: "a", 1: "b"}


def test_256_shares_on_256_servers_match():
    layout = {i: [j for j in range(256) if j >= i] for i in range(256)}
    assert placement.happiness(layout) == 256
