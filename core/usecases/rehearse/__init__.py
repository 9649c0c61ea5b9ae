"""A clinic tried out before its customers have it: cases, or its own last questions, against a candidate."""
