"""The table of OPEN's flags, every combination."""

import pytest

from truckee.frontends.sftp.errors import BAD_MESSAGE, PERMISSION_DENIED, Refused
from truckee.frontends.sftp.open_flags import Opening, decide

R, W, A, C, T, X = 1, 2, 4, 8, 16, 32

OPENINGS = [
    (R, Opening(reads=True, writes=False, buffered=False)),
    (W, Opening(reads=False, writes=True, buffered=True)),
    (R | W, Opening(reads=True, writes=True, buffered=True)),
    (W | T, Opening(False, True, True, truncate=True)),
    (W | C, Opening(False, True, True, create=True)),
    (W | C | T, Opening(False, True, True, create=True, truncate=True)),
    (R | W | C | T, Opening(True, True, True, create=True, truncate=True)),
    (W | C | X, Opening(False, True, True, create=True, exclusive=True)),
    (C | X, Opening(False, True, True, create=True, exclusive=True)),
    (W | C | T | X, Opening(False, True, True, create=True, truncate=True, exclusive=True)),
    (W | A, Opening(False, True, True, append=True)),
    (A, Opening(False, True, True, append=True)),
    (W | A | C, Opening(False, True, True, create=True, append=True)),
    (W | A | R, Opening(True, True, True, append=True)),
    (W | A | C | R, Opening(True, True, True, create=True, append=True)),
    (C, Opening(False, True, True, create=True)),
    (R | C, Opening(True, False, True, create=True)),
]

REFUSALS = [
    (0, BAD_MESSAGE),
    (T, BAD_MESSAGE),
    (X, BAD_MESSAGE),
    (T | X, BAD_MESSAGE),
    (R | X, BAD_MESSAGE),
    (W | X, BAD_MESSAGE),
    (W | T | X, BAD_MESSAGE),
    (T | C, BAD_MESSAGE),
    (A | T, BAD_MESSAGE),
    (R | T | C, BAD_MESSAGE),
    (R | T, PERMISSION_DENIED),
]


@pytest.mark.parametrize(("flags", "opening"), OPENINGS)
def test_flags_that_make_sense(flags, opening):
    assert decide(flags) == opening
    assert decide(flags | 0x40 | 0x80000000) == opening


@pytest.mark.parametrize(("flags", "code"), REFUSALS)
def test_flags_that_do_not(flags, code):
    with pytest.raises(Refused) as caught:
        decide(flags)
    assert caught.value.code == code


def test_every_combination_is_decided_and_keeps_the_rules():
    for flags in range(64):
        try:
            found = decide(flags)
        except Refused as error:
            assert error.code in (BAD_MESSAGE, PERMISSION_DENIED)
            continue
        assert found.reads or found.writes
        assert found.buffered == bool(flags & (W | A | C))
        assert not found.truncate or flags & W
        assert not found.exclusive or found.create
