"""Rules for the product's own source, read as a tree: what must not be there at all."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path for top in ("core", "auth", "frontends") for path in sorted((ROOT / top).rglob("*.py"))
]

FORBIDDEN_MODULES = {
    "pickle", "marshal", "shelve", "dill", "code", "codeop", "runpy", "pty", "subprocess",
    "xml", "xmlrpc", "tempfile", "telnetlib", "pdb",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "mktemp"}
RANDOM = {  # jitter of delays and of retries: nothing that anybody must not guess
    "auth/throttle.py": "random.random",
    "core/mutable/context.py": "normalvariate",
}
IMPORT_BY_NAME = {"frontends/cli/main.py"}  # from a table of its own
TEXT_TO_INT = {  # each behind a pattern of ASCII digits
    "auth/accounts.py",
    "core/config_values.py",
    "core/formats/base32.py",
    "core/formats/dirnode.py",
    "core/formats/netstring.py",
    "core/formats/numbers.py",
    "core/storage/files.py",  # the kernel's release
    "core/storage/folder.py",
    "frontends/node/endpoints.py",
    "frontends/ftp/codec.py",
    "frontends/gate/proxy.py",
    "frontends/node/process.py",  # our own mark
}
WALL_CLOCK = {  # dates of links, leases, listings, accounts and certificates; no delay hangs on it
    "auth/accounts.py",
    "core/client.py",
    "core/dirtables.py",
    "core/storage/disk.py",
    "core/storage/server.py",
    "frontends/cli/account.py",
    "frontends/ftp/service.py",
    "frontends/node/access.py",
    "frontends/node/certificate.py",
    "frontends/node/checkup.py",
    "frontends/node/operations.py",
    "frontends/node/process.py",
    "frontends/node/surroundings.py",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def trees() -> list[tuple[str, ast.AST]]:
    return [(name_of(p), node) for p in SOURCES for node in ast.walk(ast.parse(p.read_text()))]


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return set()


def called(node: ast.AST) -> str:
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` as it stands there; what is not a name is a question mark."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


@pytest.mark.threat("X4")
def test_nothing_runs_what_it_reads():
    for name, node in trees():
        found = {module.partition(".")[0] for module in imported(node)} & FORBIDDEN_MODULES
        assert not found, (name, found)
        call = called(node)
        if call and call != "re.compile":
            assert call.rpartition(".")[2] not in FORBIDDEN_CALLS or "." in call, (name, call)
            assert call not in {"os.system", "os.popen", "yaml.load", "builtins.exec"}, name
        if isinstance(node, ast.keyword) and node.arg == "shell":
            raise AssertionError(name)
        if call.endswith("import_module"):
            assert name in IMPORT_BY_NAME, name


@pytest.mark.threat("X6")
def test_no_check_disappears_with_asserts():
    """Those that are there help the type checker only; ruff S101 guards the others."""
    for name, node in trees():
        if isinstance(node, ast.Assert):
            text = ast.unparse(node.test)
            assert text.startswith("isinstance(node, ") or text.endswith("is not None"), name


@pytest.mark.threat("O9")
def test_randomness_that_matters_comes_from_the_system():
    for name, node in trees():
        for module in imported(node):
            if module.partition(".")[0] == "random":
                assert name in RANDOM, name
                if "." in module:
                    assert module == f"random.{RANDOM[name]}", name
        call = called(node)
        if call.startswith("random.") and call != "random.random":
            raise AssertionError((name, call))


def test_text_becomes_a_number_where_digits_are_checked():
    for name, node in trees():
        if called(node) != "int" or not node.args:
            continue
        first = node.args[0]
        if isinstance(first, ast.BinOp | ast.Call | ast.Constant):
            kind = ast.unparse(first)
            if "group" not in kind and "translate" not in kind:
                continue  # a sum or the result of a function: no text
        assert name in TEXT_TO_INT | NUMBERS_TO_INT, (name, ast.unparse(node))


NUMBERS_TO_INT = {  # from floats and addresses
    "auth/throttle.py",
    "core/directory.py",
    "core/download/reader.py",
    "core/formats/immutable_share.py",
    "frontends/gate/pacing.py",
    "frontends/node/figures.py",  # the kernel's count of pages
    "frontends/node/logs.py",
    "frontends/sftp/keys.py",  # a reason's number
    "frontends/vfs/attributes.py",
    "frontends/vfs/pending.py",
    "frontends/vfs/spool.py",
}


@pytest.mark.threat("N15")
def test_only_dates_come_from_the_wall_clock():
    for name, node in trees():
        if isinstance(node, ast.Attribute) and dotted(node) in {"time.time", "time.time_ns"}:
            assert name in WALL_CLOCK, name
        if called(node).startswith("datetime.") and called(node).endswith(
            ("now", "utcnow", "today")
        ):
            assert name in WALL_CLOCK, name


def test_secrets_are_compared_in_constant_time():
    """No `==` between what is named like a secret and anything."""
    words = {"enabler", "write_enabler", "renew", "cancel", "password", "digest", "mac", "secret"}
    allowed = {  # a digest in a tree is no secret; a lease is looked for by its secret's hash
        "core/formats/container.py",
        "auth/checkers.py",  # two that are stored: whether the file has changed
    }
    for name, node in trees():
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        for side in (node.left, *node.comparators):
            last = dotted(side).rpartition(".")[2]
            if last in words:
                assert name in allowed, (name, ast.unparse(node))


def test_patterns_are_matched_whole():
    """`$` takes a line end along, and `match` any tail; only lexers may use `match`."""
    lexers = {"core/formats/ueb.py"}
    for name, node in trees():
        call = called(node)
        if (call.startswith("_") and call.endswith(".match")) or call == "re.match":
            assert name in lexers, (name, call)
        if call == "re.compile" and isinstance(node.args[0], ast.Constant):
            pattern = node.args[0].value
            text = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
            assert not text.endswith("$") or text.endswith("\\$"), (name, text)


OPTIMISED = """
import sys
assert False, "this must be stripped"
from tests.hostile.parser_cases import PARSERS
from tests.hostile.test_parsers_fuzz import Mutator
import random
for parser in PARSERS:
    mutate = Mutator(parser.seeds, random.Random(parser.name))
    for _ in range(200):
        try:
            parser.parse(mutate())
        except parser.errors:
            pass
print("ok")
"""


@pytest.mark.threat("X6")
def test_parsers_refuse_as_much_without_asserts():
    done = subprocess.run(
        [sys.executable, "-O", "-c", OPTIMISED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "ok\n", done.stderr
