"""A week of bad networks in minutes: real clients, a network with accidents, a node that lives."""
