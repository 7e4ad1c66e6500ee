"""Accounts, credential checkers, throttle, and the realm that turns a login into a root node."""
