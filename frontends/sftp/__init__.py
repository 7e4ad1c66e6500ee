"""SFTP: SSH below, protocol version 3 above, and the vfs behind it."""
