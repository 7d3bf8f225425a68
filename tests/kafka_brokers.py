"""Real Apache Kafka for tests: brokers on loopback that are controllers too, with their own data.

The jars lie where ``.ci/servers`` has put them, or where SHARDBOOK_KAFKA says. Without them, or
without Java, tests that need a broker skip.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.sections import KafkaSection

JARS = Path("/opt/shardbook-kafka/libs")
WAIT_S = 120
_JAVA = ("java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOG = """
Configuration:
  Appenders:
    Console: {name: out, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: out}}
"""


def jars() -> Path | None:
    """Return where Kafka's jars are."""
    found = Path(os.environ.get("SHARDBOOK_KAFKA") or JARS)
    return found if found.is_dir() and shutil.which("java") else None


class Brokers:
    """Some brokers, each of which may be stopped, killed and started again."""

    def __init__(self, directory: Path, libs: Path, count: int, host: str = "127.0.0.1") -> None:
        self._directory, self._libs, self._host = directory, libs, host
        self._cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        held = [socket.socket() for _ in range(2 * count)]
        for free in held:
            free.bind((host, 0))
        ports = [free.getsockname()[1] for free in held]
        for free in held:
            free.close()
        self.ports, self._controllers = ports[:count], ports[count:]
        self.bootstrap = ",".join(f"{host}:{port}" for port in self.ports)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        (directory / "log4j2.yaml").write_text(_LOG)
        for number in range(count):
            self._format(number)
        self.start()

    def start(self, *numbers: int, wait: bool = True) -> None:
        """Start those that do not run, of these or of all, and wait until they listen."""
        for number in numbers or range(len(self.ports)):
            process = self._processes.get(number)
            if process is None or process.poll() is not None:
                self._processes[number] = self._java(number, "kafka.Kafka")
        if not wait:
            return
        deadline = time.monotonic() + WAIT_S
        for number in numbers or range(len(self.ports)):
            while not self._listens(number):
                log = (self._directory / f"{number}.log").read_text()[-2_000:]
                assert self._processes[number].poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)

    def kill(self, *numbers: int, how: int = signal.SIGKILL) -> None:
        """Kill some, or all; what they have written stays."""
        chosen = [self._processes[n] for n in numbers or self._processes]
        for process in chosen:
            process.send_signal(how)
        for process in chosen:
            process.wait()

    def in_sync(self) -> bool:
        """Tell whether each partition is whole on all brokers that are to have it."""
        from confluent_kafka.admin import AdminClient

        topics = AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=30).topics
        partitions = [p for topic in topics.values() for p in (topic.partitions or {}).values()]
        return all(p.leader >= 0 and set(p.isrs) == set(p.replicas) for p in partitions)

    def fill_disk(self, number: int) -> None:
        """Leave one no room on its file system until it ends of that; then make room."""
        filler, process = self._directory / str(number) / "filler", self._processes[number]
        deadline = time.monotonic() + WAIT_S
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while time.monotonic() < deadline:
                file.write(bytes(1 << 16))
        while process.poll() is None:
            assert time.monotonic() < deadline, "a full disk does not end it"
            time.sleep(0.05)
        filler.unlink()

    @contextmanager
    def standing_still(self, number: int) -> Iterator[None]:
        """Let one stand still for the length of the block."""
        process = self._processes[number]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        """Return their process ids."""
        return [process.pid for process in self._processes.values()]

    def section(self, prefix: str, **more: Any) -> KafkaSection:
        """Return how they are reached."""
        return KafkaSection(enabled=True, brokers=self.bootstrap, prefix=prefix, **more)

    def text(self, prefix: str, more: str = "") -> str:
        """Return the section of a configuration that turns Kafka on."""
        return (
            f'[kafka]\nenabled = true\nbrokers = "{self.bootstrap}"\nprefix = "{prefix}"\n{more}\n'
        )

    def messages(
        self, topic: str, partition: int | None = None, committed: bool = True
    ) -> list[Any]:
        """Return all messages of a topic, partition by partition."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "test",
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            there = consumer.list_topics(topic, 30).topics[topic].partitions
            chosen = sorted(there) if partition is None else [partition]
            consumer.assign([TopicPartition(topic, number, 0) for number in chosen])
            found: list[Any] = []
            ended: set[int] = set()
            while len(ended) < len(chosen):
                message = consumer.poll(30)
                assert message is not None, f"{topic}: no answer"
                error = message.error()
                if error is None:
                    found.append(message)
                    continue
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition())
            return sorted(found, key=lambda m: (m.partition(), m.offset()))
        finally:
            consumer.close()

    def _format(self, number: int) -> None:
        voters = ",".join(f"{n}@{self._host}:{port}" for n, port in enumerate(self._controllers))
        replicas, least = min(3, len(self.ports)), 2 if len(self.ports) > 1 else 1
        home = self._directory / str(number)
        listeners = (
            f"PLAINTEXT://{self._host}:{self.ports[number]},"
            f"CONTROLLER://{self._host}:{self._controllers[number]}"
        )
        (self._directory / f"{number}.properties").write_text(
            f"""process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={listeners}
advertised.listeners=PLAINTEXT://{self._host}:{self.ports[number]}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={home}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={least}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=2
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={least}
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={least}
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.fetch.timeout.ms=2000
num.network.threads=2
num.io.threads=2
"""
        )
        tool = self._java(number, "kafka.tools.StorageTool", "format", "-t", self._cluster, "-c")
        assert tool.wait() == 0, (self._directory / f"{number}.log").read_text()

    def _java(self, number: int, *main: str) -> "subprocess.Popen[bytes]":
        log4j = f"-Dlog4j2.configurationFile={self._directory}/log4j2.yaml"
        command = [*_JAVA, log4j, "-cp", f"{self._libs}/*", *main]
        command.append(str(self._directory / f"{number}.properties"))
        with (self._directory / f"{number}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _listens(self, number: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self._host, self.ports[number])) == 0


@contextmanager
def brokers_running(
    count: int = 1, host: str = "127.0.0.1", room_bytes: int = 0
) -> Iterator[Brokers]:
    """Run brokers; skips where Kafka is not installed.

    With ``room_bytes`` each has a file system of its own, of so many (root can have it so).
    """
    libs = jars()
    if libs is None:
        pytest.skip("no Kafka is installed here")
    pytest.importorskip("confluent_kafka")
    directory = Path(tempfile.mkdtemp(prefix="sb-kafka-"))
    homes = [directory / str(number) for number in range(count)] if room_bytes else []
    for home in homes:
        home.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room_bytes}", "shardbook", str(home)]
        subprocess.run(mount, check=True)
    brokers = Brokers(directory, libs, count, host)
    try:
        yield brokers
    finally:
        brokers.kill()
        for home in homes:
            subprocess.run(["umount", "-l", str(home)], check=True)
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def broker() -> Iterator[Brokers]:
    """One broker that the tests of a run share; each has a prefix of its own."""
    with brokers_running() as brokers:
        yield brokers
