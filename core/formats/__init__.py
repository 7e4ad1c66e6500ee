"""Bytes to values and back: capabilities, share layouts, packed directories, share containers."""
