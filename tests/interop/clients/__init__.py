"""Programs that people use, one small class each with the same verbs, and what is expected."""
