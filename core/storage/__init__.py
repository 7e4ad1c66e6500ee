"""Storage servers and the share stores below them; the seam is in ``api``."""
