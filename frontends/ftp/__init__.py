"""The FTP frontend: command codec, data channels, and the shell over the vfs."""
