"""Google's emulator compiles itself while it is first used: what is measured begins after that."""

from __future__ import annotations

from core.domain.errors import DocumentsUnavailableError
from core.ports.documents import DocumentStore, Key, Merge

TRIES = 10


async def warm(documents: DocumentStore) -> None:
    """Raises DocumentsUnavailableError if it does not answer in the end."""
    for tries_left in reversed(range(TRIES)):
        try:
            await documents.commit([Merge(Key("bench", "warm"), {"up": True})])
            await documents.get_many([Key("bench", "warm")])
        except DocumentsUnavailableError:
            if not tries_left:
                raise
        else:
            return
