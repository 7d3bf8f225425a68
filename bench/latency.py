"""Round-trip latency: one order at a time, and open loop at a rate.

In the open loop every order has an intended time of sending, whatever the answers do, and its
latency counts from then: a generator or a product that falls behind pays for it in every order
(no coordinated omission; Tene, "How NOT to Measure Latency"). Orders that are due together leave
in one write.
"""

import ctypes
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.bare_chain import Proportion
from bench.clients import SILENCE_S, Client, Target
from bench.load import ClientRun, Generators, Job, open_clients, run_of
from bench.processes import cpu_by_role
from bench.products import Product, bare_product
from bench.traffic import Traffic
from ipc.arrays import Integers

WARM_ORDERS = 500
"""Orders at the beginning that do not count."""
_LEAD_NS = 1_000_000
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True)
class LatencyRun:
    """Nanoseconds of each order that counts, and what was sent and answered."""

    latencies_ns: Integers
    clients: list[ClientRun]


@dataclass
class OneAtATime:
    """Send one order, wait for its first answer, and so on."""

    target: Target
    traffic: Path
    user_prefix: str
    commands: int

    def prepare(self) -> None:
        """Connect the one client."""
        [self._client] = open_clients(
            self.target, self.traffic, [0], self.user_prefix, self.commands
        )

    def run(self) -> LatencyRun:
        """Time every order, to when its answer has come; as the open loop does."""
        client = self._client
        taken = np.zeros(len(client.share.ends), np.int64)
        for place, end in enumerate(client.share.ends.tolist()):
            begin_ns = time.monotonic_ns()
            client.send_to(end)
            while client.answered <= place:
                came_ns = client.receive()
            taken[place] = came_ns - begin_ns
        return LatencyRun(taken[WARM_ORDERS:], [run_of(client)])

    def finish(self) -> list[ClientRun]:
        """Cancel what rests and close."""
        self._client.withdraw()
        return [run_of(self._client)]


@dataclass
class OpenLoop:
    """Send ``rate`` orders a second, in the order of their request ids, over several clients."""

    target: Target
    traffic: Path
    clients: Sequence[int]
    user_prefix: str
    commands: int
    rate: int

    def prepare(self) -> None:
        """Connect, and have the kernel wake this process in time."""
        # The kernel's leave to wake a sleeper 50 microseconds late would count as latency.
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._clients = self.open()
        for client in self._clients:
            client.sock.setblocking(False)

    def open(self) -> list[Client]:
        """Connect the clients."""
        return open_clients(
            self.target, self.traffic, self.clients, self.user_prefix, self.commands
        )

    def run(self) -> LatencyRun:
        """Send on time, and take the answers as they come."""
        answered_ns = np.zeros(self.commands + 1, np.int64)
        by_socket = {client.sock: client for client in self._clients}
        start_ns = time.monotonic_ns() + _LEAD_NS
        while by_socket:
            due = (time.monotonic_ns() - start_ns) * self.rate // 10**9 + 1
            for client in by_socket.values():
                _send_due(client, due)
            next_ns = start_ns + due * 10**9 // self.rate - time.monotonic_ns()
            wait_s = max(0.0, next_ns / 1e9) if due < self.commands else SILENCE_S
            blocked = [sock for sock, client in by_socket.items() if client.blocked]
            ready, _, _ = select.select(list(by_socket), blocked, [], wait_s)
            if not ready and due >= self.commands and not blocked:
                raise TimeoutError(f"no answer came for {SILENCE_S:.0f} s")
            for sock in ready:
                client = by_socket[sock]
                client.receive(answered_ns)
                if client.done:
                    del by_socket[sock]
        intended = start_ns + np.arange(self.commands) * 10**9 // self.rate
        latencies_ns = answered_ns[1:] - intended
        return LatencyRun(latencies_ns[WARM_ORDERS:], [run_of(c) for c in self._clients])

    def finish(self) -> list[ClientRun]:
        """Cancel what rests and close."""
        for client in self._clients:
            client.withdraw()
        return [run_of(client) for client in self._clients]


def _send_due(client: Client, due: int) -> None:
    """Send a client's orders with request ids up to ``due``."""
    share = client.share
    count = int(np.searchsorted(share.request_ids, due, "right"))
    if count and client.sent_bytes < share.ends[count - 1]:
        client.send_to(int(share.ends[count - 1]))


class Percentiles(NamedTuple):
    """Microseconds."""

    p50: float
    p99: float
    p999: float


@dataclass
class Pace:
    """One way of sending, and what each round of it found."""

    name: str
    traffic: Traffic
    commands: int
    clients: int = 1
    rate: int = 0
    """Orders a second; 0: one at a time."""
    real: list[Percentiles] = field(default_factory=list)
    bare: list[Percentiles] = field(default_factory=list)
    real_cpu: list[dict[str, float]] = field(default_factory=list)
    bare_cpu: list[dict[str, float]] = field(default_factory=list)
    """CPU microseconds an order by role, of each round."""

    def job(self, target: Target, user_prefix: str) -> Job:
        """Return what a generator has to do."""
        directory = self.traffic.directory
        if not self.rate:
            return OneAtATime(target, directory, user_prefix, self.commands)
        clients = range(self.clients)
        return OpenLoop(target, directory, clients, user_prefix, self.commands, self.rate)

    def round(self, product: Product, senders: Generators) -> None:
        """Measure product and bare chain once, one after the other."""
        done = product.measured([self.job(product.target, product.user_prefix())], senders)
        [run] = done.found
        assert isinstance(run, LatencyRun)
        self.real.append(percentiles(run))
        self.real_cpu.append(self._an_order(run, done.cpu_ns))
        with bare_product(product.plan, proportion_of(run)) as (target, pids):
            senders.prepare([self.job(target, "")])
            roles = {**pids, "generators": senders.pids}
            before = cpu_by_role(roles)
            [run] = senders.run()
            after = cpu_by_role(roles)
            senders.finish()
        assert isinstance(run, LatencyRun)
        self.bare.append(percentiles(run))
        cpu_ns = {role: after[role] - before[role] for role in after}
        self.bare_cpu.append(self._an_order(run, cpu_ns))

    def _an_order(self, run: LatencyRun, cpu_ns: dict[str, int]) -> dict[str, float]:
        orders = sum(client.commands for client in run.clients)
        return {role: spent / 1000 / orders for role, spent in cpu_ns.items()}

    def ratios(self, of: Callable[[Percentiles], float]) -> list[float]:
        """Return each round's real figure by its bare one."""
        return [of(real) / of(bare) for real, bare in zip(self.real, self.bare, strict=True)]


def percentiles(run: LatencyRun) -> Percentiles:
    """Return the percentiles of a run."""
    return Percentiles(*(np.percentile(run.latencies_ns, [50, 99, 99.9]) / 1000).tolist())


def proportion_of(run: LatencyRun) -> Proportion:
    """Return how the bare chain has to answer to move as many bytes."""
    return Proportion(
        sum(client.answer_bytes for client in run.clients),
        sum(client.command_bytes for client in run.clients),
    )
