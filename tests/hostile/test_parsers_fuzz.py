"""Every parser, given valid inputs with damage in them: its declared errors, and no others."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.parser_cases import PARSERS, Parser

ROUNDS = 2000
SLOWEST = 1.0  # seconds for one input; the usual one takes microseconds

NASTY = [
    b"",
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\0\0\0",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"-1",
    b"+1",
    b"1_0",
    b" 7 ",
    "١٢".encode(),
    "²".encode(),
    b"0" * 30,
    b"9" * 21,
    b"9" * 5000,
    b"1e400",
    b"NaN",
    b"\r\n",
    b"\n",
    b"\r",
    b"\x85",
    "\u2028".encode(),
    "\ufeff".encode(),
    "\u202e".encode(),
    b"\xed\xa0\x80",
    b"\xc3\x28",
    b":",
    b",",
    b"99999999999999:",
    b"0:,",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"URI:",
    b"ro.",
    b"imm.",
    b"..",
    b"/",
    b"*" * 255,
    b"[!a-",
    b"%s%n{0}",
    b'"',
    b"\\",
    b"#",
    b"=",
    b"\xff\xf4\xff\xf2",
    b"\xff\xfa",
]


@dataclass
class Mutator:
    """Damages seeds, the same way for the same number."""

    seeds: list[bytes]
    dice: random.Random

    def __call__(self) -> bytes:
        data = bytearray(self.dice.choice(self.seeds))
        for _ in range(self.dice.choice((1, 1, 1, 2, 3, 6))):
            self.dice.choice(self._ways())(data)
        return bytes(data)

    def _ways(self) -> list[Callable[[bytearray], None]]:
        return [self._flip, self._flip, self._set, self._insert, self._insert] + [
            self._cut, self._repeat, self._end, self._splice, self._number, self._swap,
        ]  # fmt: skip

    def _at(self, data: bytearray) -> int:
        if self.dice.random() < 0.3:
            return self.dice.randrange(min(len(data), 120) + 1)  # headers are in front
        return self.dice.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            at = min(self._at(data), len(data) - 1)
            data[at] ^= 1 << self.dice.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            at = min(self._at(data), len(data) - 1)
            data[at] = self.dice.choice(
                (0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x3A, self.dice.randrange(256))
            )

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self.dice.choice(NASTY)

    def _cut(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + self.dice.randrange(40)]

    def _repeat(self, data: bytearray) -> None:
        at = self._at(data)
        piece = data[at : at + self.dice.randrange(40)]
        data[at:at] = piece * self.dice.choice((1, 1, 2, 50))

    def _end(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _splice(self, data: bytearray) -> None:
        other = self.dice.choice(self.seeds)
        data[self._at(data) :] = other[self.dice.randrange(len(other) + 1) :]

    def _number(self, data: bytearray) -> None:
        """Put another number of 1, 2, 4 or 8 bytes somewhere, or other digits for some."""
        width = self.dice.choice((1, 2, 4, 8))
        at = self._at(data)
        value = self.dice.choice((0, 1, 2**31, 2 ** (8 * width) - 1, self.dice.getrandbits(20)))
        data[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "big")

    def _swap(self, data: bytearray) -> None:
        a, b = sorted((self._at(data), self._at(data)))
        data[a:b] = bytes(data[a:b])[::-1]


def play(parser: Parser, rounds: int, seed: str) -> None:
    mutator = Mutator(parser.seeds, random.Random(f"{parser.name} {seed}"))
    for raw in parser.seeds:
        parser.parse(raw)
    refused = 0
    for _ in range(rounds):
        raw = mutator()
        began = time.process_time()
        try:
            parser.parse(raw)
        except parser.errors:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {raw[:3000]!r}") from error
        assert time.process_time() - began < SLOWEST, raw[:3000]
    assert refused or not parser.errors, "no input was ever refused: the damage does not reach it"


@pytest.mark.threat("U5", "S9", "F6", "A5", "O7", "X5")
@pytest.mark.parametrize("parser", PARSERS, ids=lambda p: p.name)
def test_damaged_input_gives_a_value_or_the_declared_error(parser: Parser) -> None:
    play(parser, parser.rounds(ROUNDS), "short")


@pytest.mark.long
@pytest.mark.parametrize("parser", PARSERS, ids=lambda p: p.name)
def test_much_damaged_input_gives_a_value_or_the_declared_error(parser: Parser) -> None:
    play(parser, parser.rounds(100 * ROUNDS), "long")


def test_every_parser_is_named_once() -> None:
    names = [parser.name for parser in PARSERS]
    assert len(set(names)) == len(names)
    assert len(names) >= 25
    assert Path(__file__).with_name("parser_cases.py").exists()
