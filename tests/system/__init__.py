"""A whole node in a process of its own, seen only through FTP, its folder and its exit code."""
