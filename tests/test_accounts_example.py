import re
from pathlib import Path

from tests.fakes.account_lines import BCRYPT, GOOD_KEYS, WRITE
from truckee.auth.accounts import Policy, parse

EXAMPLE = Path(__file__).parent.parent / "accounts.example"
KEY = re.compile(r"((?:sk-)?ssh-\S+) <base64>")


def test_the_example_switches_nobody_on():
    found = parse(EXAMPLE.read_bytes(), Policy())
    assert not found.accounts
    assert not found.bad_lines


def test_its_lines_are_good_once_real_values_stand_in_them():
    lines = []
    for line in EXAMPLE.read_text().splitlines():
        bare = line.removeprefix("# ")
        has_root = "URI:" in bare or re.search(r"  =( |$)", bare)
        if bare != line and has_root and "ROOTCAP" not in bare:
            bare = bare.replace("$2b$12$<53 characters of hash>", BCRYPT)
            bare = KEY.sub(lambda m: f"{m[1]} {GOOD_KEYS[m[1]]}", bare)
            lines.append(bare.replace("URI:DIR2:<writekey>:<fingerprint>", WRITE))
        else:
            lines.append(line)
    found = parse("\n".join(lines).encode(), Policy())
    assert found.bad_lines == ()
    assert found.accounts.keys() == {"alice", "bob s", "carol", "mallory"}
    assert len(found.accounts["alice"].keys) == 2
    assert found.accounts["alice"].options.verify_required
    assert found.accounts["bob s"].options.readonly
    assert found.accounts["carol"].options.max_sessions == 3
    assert found.accounts["mallory"].locked
