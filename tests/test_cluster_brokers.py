"""A cluster's log on three brokers, some of which are away."""

import time
from contextlib import suppress

import pytest

from engine.cluster.log import Log
from engine.kafka.link import KafkaAwayError
from engine.kafka.topics import initialise
from tests.kafka_brokers import brokers_running
from tests.product import until


@pytest.mark.servers
def test_a_node_that_begins_before_a_log_has_a_leader_finds_it_once_it_has() -> None:
    with brokers_running(3) as brokers:
        section = brokers.section("late")
        list(initialise(section, 1))
        brokers.kill()
        log, refused = Log(section, 0, 1), []
        brokers.start(0, 1, wait=False)

        def found() -> bool:
            with suppress(KafkaAwayError):
                return log.ends() == (0, 0)
            refused.append(time.monotonic())
            return False

        until(found)
        assert refused
        log.close()
