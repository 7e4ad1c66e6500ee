"""Immutable download: find shares, fetch segments, validate, decrypt, deliver."""
