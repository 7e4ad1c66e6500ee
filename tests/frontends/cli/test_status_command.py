import json
import re

import pytest

from tests.fakes.node_folder import make_node
from tests.system.node import Node
from truckee.frontends.cli.main import run
from truckee.frontends.cli.output import Exit
from truckee.frontends.cli.status import duration, size


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with Node(tmp_path_factory.mktemp("status") / "node", ("--servers", "3")) as running:
        running.put("file.bin", b"x" * 2000)
        assert running.get("file.bin") == b"x" * 2000
        yield running


def ask(capsys, *words):
    code = run([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_a_running_node_tells_its_figures(node, capsys):
    code, out, err = ask(capsys, "status", node.folder)
    assert (code, err) == (Exit.OK, "")
    assert re.search(rf"^Truckee \S+ is up \(pid {node.process.pid}\), for \d+ s$", out, re.M)
    assert f"FTP      127.0.0.1:{node.port}  " in out
    assert "Files    1 sent, 1 received; 0 being stored, 0 failed" in out
    assert "Stores   3 of 3 are there" in out
    assert "Logins   2 ok, 0 denied; 0 wait" in out


def test_programs_get_every_figure_as_json(node, capsys):
    code, out, _ = ask(capsys, "status", node.folder, "--json")
    assert code == Exit.OK
    found = json.loads(out)
    assert (found["v"], found["running"], found["pid"]) == (1, True, node.process.pid)
    assert found["doors"]["ftp"] == [["127.0.0.1", node.port]]
    assert found["account_file"] == "ok"
    puts = [
        t["value"]
        for t in found["figures"]["transfers"]
        if t["verb"] == "put" and t["ending"] == "ok" and t["door"] == "ftp"
    ]
    assert puts == [1]


@pytest.mark.threat("L1")
def test_no_secret_and_no_name_is_in_a_status(node, capsys):
    _, shown, _ = ask(capsys, "status", node.folder)
    _, as_json, _ = ask(capsys, "status", node.folder, "--json")
    for text in (shown, as_json):
        assert "URI:" not in text
        assert node.password not in text
        assert "file.bin" not in text


def test_the_socket_is_for_the_owner_alone(node):
    assert (node.folder / "private" / "control").stat().st_mode & 0o777 == 0o600


def test_a_node_that_does_not_run_is_said_to_be_down(tmp_path, capsys):
    folder = make_node(tmp_path / "node")
    code, out, err = ask(capsys, "status", folder)
    assert (code, out) == (Exit.UNREACHABLE, "")
    assert "it does not run" in err
    assert f"truckee start {folder}" in err
    assert ask(capsys, "status", tmp_path / "absent")[0] == Exit.NOT_FOUND


def test_logins_are_shown_while_the_node_runs_and_afterwards(tmp_path, capsys):
    with Node(tmp_path / "node", ("--servers", "1")) as node:
        node.names()
        code, out, _ = ask(capsys, "-d", node.folder, "account", "logins", node.account)
        assert code == Exit.OK
        line = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  ftp  password  ok  127\.0\.0\.1$"
        assert re.search(line, out, re.M), out
        node.names()
        assert node.stop() == 0
    code, out, _ = ask(capsys, "-d", node.folder, "account", "logins", node.account, "--json")
    first, second = map(json.loads, out.splitlines())
    assert (first["account"], second["outcome"], second["times"]) == (node.account, "ok", 1)
    code, out, _ = ask(capsys, "-d", node.folder, "account", "logins")
    assert out.startswith(f"{node.account}  20")
    assert ask(capsys, "-d", node.folder, "account", "logins", "eve")[0] == Exit.NOT_FOUND
    logins = node.folder / "private" / "logins"
    assert logins.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in logins.iterdir()] == [0o600]


def test_without_logins_nothing_is_shown(tmp_path, capsys):
    folder = make_node(tmp_path / "node")
    assert ask(capsys, "-d", folder, "account", "logins", "ann") == (Exit.OK, "", "")
    assert ask(capsys, "-d", folder, "account", "logins")[1] == "ann  never\nbob  never\n"


def test_sizes_and_times_are_for_people():
    assert [size(n) for n in (0, 999, 1000, 1_500_000, 10**18)] == [
        "0 B", "999 B", "1.0 kB", "1.5 MB", "1000.0 PB",
    ]  # fmt: skip
    assert [duration(s) for s in (5, 300, 8000, 10**6)] == ["5 s", "5 min", "2 h", "12 days"]
