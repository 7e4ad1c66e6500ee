"""What an editable install would hide: packages missing from the list, data files left out."""

import configparser
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP = ("core", "auth", "frontends")


def packages_on_disk():
    found = set()
    for top in TOP:
        for init in (ROOT / top).rglob("__init__.py"):
            found.add("truckee." + ".".join(init.parent.relative_to(ROOT).parts))
    return found


def listed_packages():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return set(config["options"]["packages"].split())


def test_every_folder_with_modules_is_a_listed_package():
    assert listed_packages() == packages_on_disk()
    for top in TOP:
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_the_links_for_the_type_checker_point_at_the_folders():
    for top in TOP:
        assert (ROOT / ".typing" / "truckee" / top).resolve() == ROOT / top


def test_a_wheel_holds_every_module_and_data_file(tmp_path):
    copy = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:  # not a git checkout: an unpacked source archive
        names = [str(p.relative_to(ROOT)) for top in TOP for p in (ROOT / top).rglob("*")]
        names += ["setup.cfg", "pyproject.toml", "README.rst", "LICENSE"]
    else:
        names = listed.stdout.split("\n")
    wanted = set()
    for name in names:
        source = ROOT / name
        if not name or not source.is_file() or source.is_symlink():
            continue
        top = name.split("/")[0]
        if top in TOP or "/" not in name:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        if top in TOP and "__pycache__" not in name:
            wanted.add("truckee/" + name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(tmp_path), str(copy)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    import zipfile

    inside = set(zipfile.ZipFile(wheel).namelist())
    assert wanted <= inside, wanted - inside
