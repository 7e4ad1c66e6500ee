"""What every listener does with who comes in: limits, counts, and a record of it."""
