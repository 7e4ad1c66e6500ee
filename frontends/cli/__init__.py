"""The ``truckee`` command."""
