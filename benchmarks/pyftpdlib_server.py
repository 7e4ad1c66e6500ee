"""A stock pyftpdlib server over a plain folder: PORT FOLDER USER PASSWORD. Run by the peers' own
Python, which has it.
"""

import logging
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer


def main() -> None:
    port, folder, user, password = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    authorizer = DummyAuthorizer()
    authorizer.add_user(user, password, folder, perm="elradfmwMT")
    FTPHandler.authorizer = authorizer
    server = FTPServer(("127.0.0.1", int(port)), FTPHandler)
    server.max_cons, server.max_cons_per_ip = 1000, 0
    server.serve_forever()


if __name__ == "__main__":
    main()
