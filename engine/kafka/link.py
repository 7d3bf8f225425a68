"""Connections to Kafka, and what its errors mean.

The password is no part of the configuration, so that no file, page or message of the product can
show it: it comes from KAFKA_PASSWORD.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from engine.printable import printable
from engine.sections import KafkaSection

PASSWORD = "KAFKA_PASSWORD"
ANSWER_S = 10.0
"""How long Kafka may take to answer; one that is silent for longer counts as away."""
_FENCED = (
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
)
_silent = logging.getLogger("shardbook.kafka.library")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False  # what is wrong is told once, by who meets it


class KafkaLinkError(Exception):
    """What Kafka has cannot be used; the text names it, says why and what helps."""


class KafkaAwayError(KafkaLinkError):
    """Kafka cannot be reached or written now, and may be later."""


class FencedError(KafkaLinkError):
    """Another one writes under this name now."""


def where(section: KafkaSection) -> str:
    """Return a Kafka as messages name it."""
    user = f"{section.user}@" if section.user else ""
    return f"kafka://{user}{section.brokers}/{section.prefix}"


def options(section: KafkaSection, name: str) -> dict[str, Any]:
    """Return how to connect, as librdkafka's clients take it; ``name`` is what Kafka calls one."""
    found: dict[str, Any] = {
        "bootstrap.servers": section.brokers,
        "client.id": name,
        "security.protocol": ("SASL_" if section.user else "")
        + ("SSL" if section.tls else "PLAINTEXT"),
        "socket.timeout.ms": int(1_000 * ANSWER_S),
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        "logger": _silent,
        "allow.auto.create.topics": False,
    }
    if section.user:
        found |= {
            "sasl.mechanism": section.sasl_mechanism,
            "sasl.username": section.user,
            "sasl.password": os.environ.get(PASSWORD) or "",
        }
    for key, path in (
        ("ssl.ca.location", section.tls_ca),
        ("ssl.certificate.location", section.tls_certificate),
        ("ssl.key.location", section.tls_key),
    ):
        if path:
            found[key] = path
    return found


@contextmanager
def judged(place: str) -> Iterator[None]:
    """Turn what the client library raises into an error that names the place."""
    try:
        yield
    except KafkaException as error:
        raise judge(place, error.args[0]) from None


def judge(place: str, error: KafkaError) -> KafkaLinkError:
    """Return an error of the client library as one that names the place."""
    text = f"{place}: {printable(' '.join(str(error.str()).split()))}"
    if error.code() in _FENCED:
        return FencedError(text)
    return KafkaAwayError(text)
