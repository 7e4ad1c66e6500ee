"""Mutable files: servermap, publish and retrieve of SDMF and MDMF slots."""
