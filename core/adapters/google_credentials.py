"""What is said when Google's client libraries find no credentials."""

from __future__ import annotations


def missing(exc: Exception) -> str:
    """Of what a client's construction raised (google.auth.exceptions.GoogleAuthError), with the remedy."""
    return f"no Google credentials: run `gcloud auth application-default login` ({exc})"


def account() -> str:
    """Whose credentials the clients find (Application Default Credentials): an e-mail address, "" if they do
    not say, as a machine's own do before their first use."""
    from google.auth import default, exceptions  # noqa: PLC0415  no function asks whose credentials it has

    try:
        credentials, _ = default()
    except exceptions.GoogleAuthError:
        return ""
    named = getattr(credentials, "service_account_email", None) or getattr(credentials, "account", None)
    return str(named) if named and named != "default" else ""
