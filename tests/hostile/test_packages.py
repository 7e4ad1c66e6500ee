"""What is installed: locked with hashes, with floors, from the index, and nothing more."""

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / "requirements-dev.lock", ROOT / "tests/interop/tahoe-peer.lock"]
FLOORS = {
    "twisted": (26, 4),
    "pyasn1": (0, 6, 4),
    "cbor2": (6, 2),
    "cryptography": (46,),
    "bcrypt": (5,),
    "pyyaml": (6,),
}


def pinned(lock: Path) -> dict[str, tuple[str, int]]:
    """Return versions and numbers of hashes by name; every line must be one of these."""
    found: dict[str, tuple[str, int]] = {}
    joined = lock.read_text().replace("\\\n", " ")
    for line in joined.split("\n"):
        text = line.split("#")[0].strip()
        if not text:
            continue
        match = re.fullmatch(
            r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)((?:\s*;[^-]*)?)((?:\s+--hash=sha256:[0-9a-f]{64})*)",
            text,
        )
        assert match, f"{lock.name}: {text[:100]}"
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        found[name] = (match[2], match[4].count("--hash="))
    return found


def requirements() -> dict[str, str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    return {re.split(r"[\[><=]", line)[0].lower(): line for line in lines if line}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall("[0-9]+", text))


@pytest.mark.threat("X1")
@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_every_package_of_a_lock_has_a_version_and_hashes(lock):
    found = pinned(lock)
    assert len(found) > 20
    assert {name for name, (_, hashes) in found.items() if hashes == 0} == set()


@pytest.mark.threat("X1")
def test_nothing_is_installed_around_the_locks():
    for name in ("Makefile", ".ci/run"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        for line in re.findall(r".*\bpip install\b.*", text):
            assert "--require-hashes" in line or "--no-deps" in line, (name, line)
        assert not re.search(r"curl[^\n]*\|\s*(ba)?sh|--extra-index-url|--trusted-host", text), name


@pytest.mark.threat("X1")
def test_requirements_have_floors_and_no_addresses():
    for name, line in requirements().items():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+(\[[a-z,]+\])?>=[0-9.]+", line), name


@pytest.mark.threat("X2")
@pytest.mark.parametrize("name", FLOORS)
def test_packages_with_known_holes_are_above_them(name):
    wanted = FLOORS[name]
    line = requirements()[name]
    assert version(line.split(">=")[1])[: len(wanted)] >= wanted
    assert version(pinned(LOCKS[0])[name][0])[: len(wanted)] >= wanted


def test_everything_that_is_required_is_locked():
    assert set(requirements()) <= set(pinned(LOCKS[0]))
