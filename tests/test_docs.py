"""The documents parse, name files that exist, and their commands do what they say."""

import os
import re
import subprocess
from pathlib import Path

import docutils.core
import pytest

from tests.system.node import Node

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.rst", ROOT / "NEWS.rst", *(ROOT / "docs").rglob("*.rst")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_document_is_clean_restructured_text(document):
    settings = {"report_level": 2, "halt_level": 2, "file_insertion_enabled": False}
    docutils.core.publish_string(document.read_text(), writer="null", settings_overrides=settings)


def test_the_readme_names_only_what_exists():
    text = (ROOT / "README.rst").read_text()
    for name in re.findall(r"^``([\w./-]*[/.][\w./-]*)``\s", text, re.MULTILINE):
        assert (ROOT / name).exists(), name
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"make ([a-z]+)``|\$ make ([a-z]+)", text):
        assert set(target) & targets, target


def readme_commands():
    return re.findall(r"^    \$ (.*)$", (ROOT / "README.rst").read_text(), re.MULTILINE)


def test_the_commands_of_the_first_five_minutes_work(tmp_path):
    commands = [c for c in readme_commands() if not re.match(r"make|python3|\.venv", c)]
    assert len(commands) >= 5
    with Node(tmp_path / "node") as node:
        home = tmp_path / "home"
        home.mkdir()
        netrc = home / ".netrc"
        netrc.touch(0o600)
        netrc.write_text(f"machine 127.0.0.1 login {node.account} password {node.password}\n")
        script = "set -e\n" + "\n".join(commands)
        script = script.replace("127.0.0.1:8021", f"127.0.0.1:{node.port}")
        script = script.replace("8022", str(node.ready["sftp"]["port"]))
        done = subprocess.run(
            ["bash", "-c", script],
            check=False,
            cwd=home,
            env={**os.environ, "HOME": str(home)},
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert b"holiday.bin" in done.stdout
