"""Requests over a channel, served from a grid in memory."""

import pytest

from tests.fakes.sftp_client import (
    OK,
    OPEN,
    READ,
    STAT,
    WRITE,
    C,
    R,
    T,
    Talk,
    W,
    attrs,
    s,
    u32,
    u64,
)  # fmt: skip
from tests.fakes.tree import Tree


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def talk(tree):
    return Talk(tree)


def test_what_is_put_can_be_listed_and_got(talk):
    data = bytes(range(256)) * 700 + b"seven 7"
    talk.put("/naïve é 日本.bin", data)
    assert talk.get("/naïve é 日本.bin") == data
    names = talk.names()
    assert list(names) == ["naïve é 日本.bin"]
    line, found = names["naïve é 日本.bin"]
    assert line.startswith("-rw-rw-rw-   1 alice    alice")
    assert found.size == len(data)
    assert found == talk.stat("/naïve é 日本.bin")


def test_many_requests_can_be_sent_before_the_first_answer(talk):
    handle = talk.handle("/f", W | C | T)
    numbers = [talk.send(WRITE, handle + u64(i * 1000) + s(bytes([i]) * 1000)) for i in range(50)]
    assert [talk.wait(n).code for n in numbers] == [OK] * 50
    assert talk.close(handle) == OK
    handle = talk.handle("/f", R)
    numbers = [talk.send(READ, handle + u64(i * 1000) + u32(1000)) for i in range(50)]
    assert [talk.wait(n).data for n in numbers] == [bytes([i]) * 1000 for i in range(50)]
    _ = OPEN, STAT, attrs
