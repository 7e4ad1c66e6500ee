"""Real clients on a network that cuts, stalls, loses and reorders, in the middle of everything.

The ordinary run has one or two accidents for each client; the whole matrix is long.
"""

import os

import pytest

from tests.system.networks import accidents
from tests.system.networks.accidents import ALL, FORGETFUL, NOT, Accident
from tests.system.networks.clients import KINDS

pytestmark = pytest.mark.interop

PLACES = [("up", where) for where in (0.3, 0.6, 0.9, 0.99, 1.0)]
PLACES += [("down", where) for where in (0.5, 0.9, 0.97, 1.0)]
CUTS = [
    *(Accident("reset", where, direction) for direction, where in PLACES),
    *(Accident("reset", where, direction, True) for direction, where in PLACES[1::3]),
    *(Accident("close", where, direction) for direction, where in PLACES[::2]),
    *(Accident("vanish", where, direction) for direction, where in PLACES[1::2]),
]
STALLS = [Accident("stall", w, d) for w in (0.3, 0.9, 1.0) for d in ("up", "down")]
every_client = pytest.mark.parametrize("place", KINDS, indirect=True)
ORDINARY = {"sftp", "sshfs", "lftp ftp", "curl ftps"}
some_clients = pytest.mark.parametrize(
    "place",
    [pytest.param(k, marks=[pytest.mark.long] * (k not in ORDINARY)) for k in KINDS],
    indirect=True,
)


@some_clients
def test_a_cut_leaves_no_part_of_an_upload_and_a_download_goes_on(place):
    accidents.upload(place, [Accident("reset", 0.5)])
    accidents.download(place, [Accident("reset", 0.5, "down")])


@pytest.mark.parametrize("place", ["sftp", "curl ftp", "curl ftps"], indirect=True)
def test_a_connection_closed_in_order_ends_no_upload(place):
    accidents.upload(place, [Accident("close", 0.97)])


@pytest.mark.parametrize("place", ["sftp", "lftp ftp"], indirect=True)
def test_a_stalled_upload_goes_on(place):
    accidents.upload(place, [Accident("stall", 0.5)])


@pytest.mark.parametrize("place", ["sftp", "curl ftp"], indirect=True)
def test_bytes_that_vanish_change_no_file(place):
    accidents.overwrite(place, [Accident("vanish", 0.6)])


@pytest.mark.parametrize("place", ["sftp", "lftp ftp"], indirect=True)
def test_a_rename_whose_answer_is_lost_was_done_or_not(place):
    accidents.rename(place, [Accident("reset", 0.99, "up"), Accident("reset", 0.99, "down")])


@pytest.mark.parametrize("place", ["lftp ftp", "curl ftp"], indirect=True)
def test_data_and_commands_may_overtake_each_other(place):
    place.network.weather(0.01, 0.05)
    everything_works(place)


def everything_works(place):
    """Do each thing once; it must succeed."""
    client, data = place.client, os.urandom(500_000)
    source, target, name = accidents.local(place, data), place.folder / "came", place.name()
    place.clean(client.upload(source, name))
    assert place.state(name) == data
    place.clean(client.download(name, target))
    assert target.read_bytes() == data
    new, folder = place.name(), place.name()
    for command in (client.rename(name, new), client.mkdir(folder)):
        if command is not None:
            place.clean(command)
    if client.rename(name, new) is not None:
        assert (place.state(name), place.state(new)) == (None, data)


@pytest.mark.long
@every_client
@pytest.mark.parametrize("verb", ALL)
def test_every_cut_leaves_the_old_or_the_new(place, verb):
    kind = skip_what_it_cannot(place, verb)
    ALL[verb](place, [cut for cut in CUTS if not (cut.back and kind in FORGETFUL)])


@pytest.mark.long
@every_client
@pytest.mark.parametrize("verb", ALL)
def test_every_stall_ends_well(place, verb):
    skip_what_it_cannot(place, verb)
    ALL[verb](place, STALLS)


@pytest.mark.long
@every_client
def test_everything_works_on_a_network_of_late_bytes(place):
    for late in (0.05, 0.3):
        place.network.weather(0.02, late)
        everything_works(place)


def skip_what_it_cannot(place, verb):
    kind = next(name for name, kind in KINDS.items() if type(place.client) is kind)
    if (kind, verb) in NOT:
        pytest.skip(NOT[kind, verb])
    return kind
