"""Who runs this command, for the history of what operators change."""

from __future__ import annotations

import getpass
import os
import socket

from core.adapters.google_credentials import account
from core.domain.settings import Settings


def operator(settings: Settings) -> str:
    """The Google account that the command writes with, where its credentials name it; else the user and the
    machine. What Firestore lets whom write is in its own audit log."""
    is_google = settings.document_store == "firestore" and not os.environ.get("FIRESTORE_EMULATOR_HOST")
    return (account() if is_google else "") or f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())
