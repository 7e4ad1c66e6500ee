"""Tests against real peers: other people's clients and servers, started here."""
