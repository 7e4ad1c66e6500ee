"""A whole node: its directory, its process, its service tree, and the socket to talk to it."""
