"""Files and directories as a session sees them: paths, attributes, buffers, pending uploads."""
