"""Immutable upload: encode (pure), place (pure), and the shell that drives both."""
