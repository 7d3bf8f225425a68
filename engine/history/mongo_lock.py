"""Who writes to a history in MongoDB: a lock that is a document, and shows that its holder lives.

The holder goes on counting in it; one that does not for ``LOCK_WAIT_S`` has lost it. So nobody
compares clocks. One that is known to have died, a process of this machine, has lost it at once.
"""

import os
import time
import uuid

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from engine.history.destination import HistoryError
from engine.history.mongo_link import Document

LOCK_WAIT_S = 15.0
"""How long a holder of the lock may stand still before it has lost it."""
REFUSED_S = 20.0
"""How long one that goes on is waited for: it may be about to end, as its product has, and finish
a batch of each shard before."""


class WriterLock:
    """The lock, held. Its methods raise ``PyMongoError``."""

    def __init__(self, database: Database[Document], where: str) -> None:
        """Take it. Raises ``HistoryError`` where another holds it, and ``PyMongoError``."""
        self._where, self._me = where, f"{_machine()} {os.getpid()} {uuid.uuid4().hex}"
        self._locks = locks = database.lock
        refused_s = time.monotonic() + REFUSED_S
        seen: Document | None = None
        seen_s = 0.0
        while True:
            held = locks.find_one({"_id": "writer"})
            if held is None:
                try:
                    locks.insert_one({"_id": "writer", "owner": self._me, "beats": 0})
                except DuplicateKeyError:
                    continue
                return
            now_s, gone = time.monotonic(), _is_gone(held["owner"])
            if seen is None or held != seen:
                if seen is not None and not gone and now_s > refused_s:
                    raise HistoryError(
                        f"{self._where}: another exporter writes to it: {_who(held)}"
                    )
                seen, seen_s = held, now_s
            if gone or now_s > seen_s + LOCK_WAIT_S:
                mine = {"$set": {"owner": self._me, "beats": 0}}
                same = {"_id": "writer", "owner": held["owner"], "beats": held["beats"]}
                if locks.update_one(same, mine).matched_count:
                    return
            time.sleep(0.1)

    def beat(self) -> None:
        """Show that the lock is held. Raises ``HistoryError`` where it is not."""
        held = self._locks.update_one({"_id": "writer", "owner": self._me}, {"$inc": {"beats": 1}})
        if not held.matched_count:
            raise HistoryError(f"{self._where}: another exporter has taken its lock")

    def release(self) -> None:
        """Let go of it."""
        self._locks.delete_one({"_id": "writer", "owner": self._me})


def _machine() -> str:
    """Return what tells apart where process numbers are of."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"


def _is_gone(owner: str) -> bool:
    """Return whether who holds a lock was a process of this machine that is not there any more."""
    machine, pid, _ = owner.split()
    return machine == _machine() and not os.path.exists(f"/proc/{pid}")


def _who(held: Document) -> str:
    _, pid, _ = held["owner"].split()
    which = "this machine" if _machine() in held["owner"] else "another machine"
    return f"process {pid} of {which}"
