"""A clinic's settings as the functions read them."""
