"""Overtakes: does a clinic that holds a slot ever get one before a clinic that waits and holds none?"""

from __future__ import annotations

import random
from collections import Counter

from tests.bench.slots_wire import AT_ONCE, Wire
from tests.bench.table import Row


def overtakes(port: int, *, rounds: int = 1500) -> Row:
    """Turns of very different length; every grant is looked at as Redis announces it."""
    wire, chance = Wire(port), random.Random(3)
    wire.fill(0)
    held = Counter(org for org, _, _ in wire.held)
    waiting: Counter[str] = Counter()
    overtaken = grants = 0
    for _ in range(rounds):
        for _ in range(AT_ONCE):
            org = f"o{int(chance.random() ** 3 * 30)}"
            wire.count += 1
            wire.sockets[0].sendall(wire.acquire(org, f"n{wire.count}", own_cap=15))
            wire.sockets[0].recv(4096)
            waiting[org] += 1
        for _ in range(AT_ONCE):
            ended = wire.held.pop(chance.randrange(len(wire.held)))
            wire.sockets[0].sendall(wire.release(*ended))
            wire.sockets[0].recv(4096)
            held[ended[0]] -= 1
            granted = wire.grant()
            org = granted[0]
            grants += 1
            overtaken += held[org] > 0 and any(
                count > 0 and held[other] == 0 for other, count in waiting.items()
            )
            waiting[org] -= 1
            held[org] += 1
            wire.held.append(granted)
            wire.sockets[0].sendall(wire.renew(*granted))
            wire.sockets[0].recv(4096)
    wire.close()
    text = f"{overtaken} of {grants:,} grants"
    return Row("clinic without a slot overtaken by one that holds one", text, "0", "", overtaken == 0)
