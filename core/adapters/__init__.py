"""`<vendor>_<role>.py` implements the port `<role>`; vendors' exceptions end here."""
