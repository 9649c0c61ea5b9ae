"""A clinic's desk: the chat in which its staff get notices, and what they do there."""
