"""One node and one network for all clients of a module; each client has a folder of its own."""

import pytest

from tests.fakes.bad_network import BadNetwork
from tests.system.networks.clients import KINDS
from tests.system.networks.place import PASSIVE, Place, logins, make_node


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with make_node(tmp_path_factory.mktemp("networks") / "node") as node:
        yield node
        assert node.process.poll() is None
        log = (node.folder / "logs" / "truckee.log").read_text(errors="replace")
        assert "Traceback" not in log, log[-5000:]


@pytest.fixture(scope="module")
def network(node):
    ports = [node.port, node.ready["sftp"]["port"], *PASSIVE]
    with BadNetwork(ports) as network:
        yield network


@pytest.fixture
def place(node, network, tmp_path, request):
    """The place of the client that the test is parametrized with."""
    network.heal()
    network.arm(None)
    network.weather()
    client = KINDS[request.param](*logins(node), tmp_path)
    client.check()
    place = Place(node, network, client, tmp_path)
    try:
        yield place
    finally:
        place.leave()
        network.heal()
        network.weather()
        client.close()
