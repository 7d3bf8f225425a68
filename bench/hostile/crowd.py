"""All hostile clients at once, in one process that is niced below the product."""

import asyncio
import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

from bench.hostile import order_floods, order_lines, requests, sockets
from bench.hostile.foe import ATTACKS, Attack, Foe, Scene

__all__ = ["ATTACKS", "Crowd", "Toll", "order_floods", "order_lines", "requests", "sockets"]

NICENESS = 10
PAUSE_S = 0.02
"""After a turn that the product refused or cut short."""
END_S = 5.0


@dataclass
class Toll:
    """What came of one attack, by all its foes together."""

    turns: int = 0
    refused: int = 0
    """Turns that the product cut short."""
    overdue: int = 0
    """Turns that were cut short by their own bound."""
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass
class Crowd:
    """The job of the process: so many clients that attack for some time."""

    scene: Scene
    clients: int
    seconds: float
    only: Sequence[str] = ()
    _tolls: dict[str, Toll] = field(default_factory=dict)

    def prepare(self) -> None:
        """Give way to the product."""
        gc.enable()
        os.nice(NICENESS - os.nice(0))

    def run(self) -> dict[str, Toll]:
        """Attack; return what came of each attack by its name."""
        try:
            uvloop.run(self._attack())
        except Exception as error:  # whatever it is, it is the bench's own fault
            raise RuntimeError(f"an attack failed: {error!r}") from error
        return self._tolls

    def finish(self) -> None:
        """Do nothing: all connections are closed."""

    async def _attack(self) -> None:
        names = list(self.only) or list(ATTACKS)
        deadline = asyncio.get_running_loop().time() + self.seconds
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                one = ATTACKS[names[number % len(names)]]
                toll = self._tolls.setdefault(one.name, Toll())
                group.create_task(_go_on(one, Foe(self.scene, number), toll, deadline))


async def _go_on(one: Attack, foe: Foe, toll: Toll, deadline: float) -> None:
    """Let one foe do its attack over and over until the end."""
    loop = asyncio.get_running_loop()
    while (now := loop.time()) < deadline:
        try:
            async with asyncio.timeout_at(min(deadline, now + one.turn_s)):
                await one.run(foe)
            toll.turns += 1
            pause_s = 0.0
        except TimeoutError:
            toll.overdue += 1
            pause_s = 0.0
        except (OSError, EOFError):
            toll.refused += 1
            pause_s = PAUSE_S
        finally:
            foe.close()
        await asyncio.sleep(pause_s)
    toll.sent_bytes += foe.sent_bytes
    toll.received_bytes += foe.received_bytes
