"""``truckee account key``: the SSH keys of an account.

Knows the options; the edits are `truckee.auth.account_edits`. Touches the account file, key files
and the terminal.
"""

import sys
from pathlib import Path

import click

from truckee.auth import account_edits
from truckee.auth.public_keys import PublicKey
from truckee.frontends.cli import account_place as place
from truckee.frontends.cli.account_place import in_directory
from truckee.frontends.cli.main import Settings
from truckee.frontends.cli.output import CommandError, Exit, say, say_object
from truckee.frontends.node.logs import escape

OWN_KEYS = ("id_ed25519.pub", "id_ed25519_sk.pub", "id_ecdsa.pub", "id_ecdsa_sk.pub", "id_rsa.pub")


@click.group()
def key() -> None:
    """Add, list and remove the SSH keys of an account."""


@key.command()
@click.argument("name")
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@in_directory
def add(settings: Settings, directory: Path | None, name: str, files: tuple[str, ...]) -> int:
    """Let whoever has a key log in as NAME: those of a .pub file, or of an authorized_keys file.

    Without FILE, your own key in ~/.ssh is offered.
    """
    config = place.node(settings, directory)
    found = [key for file in files or (_own_key(),) for key in place.keys_in(file)]

    def change(document: account_edits.Document) -> None:
        for one in found:
            account_edits.add_key(document, name, one)

    place.edit(config, name, change)
    for one in found:
        say(f"key {one.fingerprint} may log in as {escape(name)}")
    return Exit.OK


def _own_key() -> str:
    """Return the file of the user's own key, once they agree."""
    folder = Path("~/.ssh").expanduser()
    file = next((folder / own for own in OWN_KEYS if (folder / own).is_file()), None)
    if file is None:
        why = "there is no public key in ~/.ssh"
        raise CommandError("no key was given", why, "ssh-keygen -t ed25519", Exit.USAGE)
    if not sys.stdin.isatty():
        why = "standard input is not a terminal"
        raise CommandError("no key was given", why, f"FILE, perhaps {file}", Exit.USAGE)
    if not click.confirm(f"Take the key in {file}?", err=True):
        raise click.Abort
    return str(file)


@key.command(name="list")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One object per key.")
@in_directory
def list_(settings: Settings, directory: Path | None, name: str, as_json: bool) -> int:
    """List the keys that may log in as NAME."""
    found = place.table(place.node(settings, directory)).get(name)
    if found is None:
        why = "there is no usable account of that name"
        what = f"no account {escape(name)}"
        raise CommandError(what, why, "truckee account list", Exit.NOT_FOUND)
    for one in found.keys:
        if as_json:
            fields = {"type": one.key_type, "fingerprint": one.fingerprint, "comment": one.comment}
            say_object({**fields, "public_key": one.text})
        else:
            say(_line(one))
    return Exit.OK


def _line(one: PublicKey) -> str:
    return f"{one.fingerprint}  {one.key_type}  {escape(one.comment)}".rstrip()


@key.command()
@click.argument("name")
@click.argument("fingerprint", metavar="FINGERPRINT|COMMENT")
@in_directory
def remove(settings: Settings, directory: Path | None, name: str, fingerprint: str) -> int:
    """Let a key log in as NAME no more; the beginning of its fingerprint is enough."""
    config = place.node(settings, directory)
    gone: list[PublicKey] = []
    place.edit(
        config,
        name,
        lambda d: gone.append(account_edits.remove_key(d, name, fingerprint)),
        advice=f"truckee account key list {escape(name)}",
    )
    say(f"key {gone[0].fingerprint} may log in as {escape(name)} no more; sessions go on")
    return Exit.OK
