"""What is said when Google's client libraries find no credentials."""

from __future__ import annotations


def missing(exc: Exception) -> str:
    """Of what a client's construction raised (google.auth.exceptions.GoogleAuthError), with the remedy."""
    return f"no Google credentials: run `gcloud auth application-default login` ({exc})"
