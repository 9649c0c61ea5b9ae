"""Rules and values: pure, no I/O, no vendor package."""
