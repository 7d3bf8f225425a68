"""The rows of the role table that face clients, and the table of the whole product.

See ``engine.roles``, which has the form of a row and those of the engine.
"""

from collections.abc import Sequence
from dataclasses import replace

from engine.config import Config
from engine.plan import Plan
from engine.roles import ENGINE_ROLES, MATCHER, Role, RoleTable

ORDER_LATENCY_US = (100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 102_400, 1_000_000)
"""The bounds of the latency histogram of an HTTP worker: each order counts in one bucket."""


def _frontends(plan: Plan) -> Sequence[int]:
    return range(plan.config.frontend.processes)


def _query_workers(plan: Plan) -> Sequence[int]:
    return range(plan.config.query.workers)


def _http_workers(plan: Plan) -> Sequence[int]:
    return range(plan.config.http.workers if plan.config.http.address else 0)


FRONTEND = Role(
    "frontend",
    "frontend.gateway.server:run",
    _frontends,
    start=40,
    stop=20,
    needed=True,
    enters_orders=True,
    counts=(
        "connections",
        "sessions",
        "accounts",
        "unwritten_accounts",
        "streams",
        "frames_in",
        "bytes_in",
        "rejects_message",
        "refused_too_many_sessions",
        "refused_login",
        "closed_not_logged_in",
        "closed_login_timeout",
        "closed_frame_too_long",
        "closed_slow_reader",
        "closed_idle",
        "undelivered_bytes",
        "held_reads",
        "shards_down",
        "resumed_reports",
        "refused_resume",
    ),
    gauges=frozenset(
        {"connections", "sessions", "accounts", "unwritten_accounts", "streams", "shards_down"}
    ),
    warm=(("routing", "frontend.gateway.frame_sorter:warm"),),
)
QUERY = Role(
    "query",
    "frontend.reads.query_worker:run",
    _query_workers,
    start=20,
    stop=40,
    counts=("requests", "torn_copies", "lost_trades"),
)
HTTP = Role(
    "http",
    "frontend.http.worker:run",
    _http_workers,
    start=50,
    stop=10,
    enters_orders=True,
    counts=(
        "requests",
        "orders",
        "errors_client",
        "errors_server",
        "connections",
        "sockets",
        "subscriptions",
        "messages_out",
        "conflated",
        "closed_slow_reader",
        "unknown_outcomes",
        "commands",
        "sessions",
        "accounts",
        "unwritten_accounts",
        "streams",
        "refused_login",
        "undelivered_bytes",
        "shards_down",
        "resumed_reports",
        "refused_resume",
        "internal_errors",
        "refused_connections",
        "closed_login_timeout",
        "order_seconds_ns",
        *(f"order_under_us_{bound}" for bound in ORDER_LATENCY_US),
        "order_over",
    ),
    gauges=frozenset(
        {
            "connections",
            "sockets",
            "subscriptions",
            "sessions",
            "accounts",
            "unwritten_accounts",
            "streams",
            "shards_down",
        }
    ),
)
CLUSTER_MATCHER = replace(
    MATCHER,
    entry="engine.cluster.matcher:run",
    counts=(*MATCHER.counts, "entries", "void_entries", "waiting_entries"),
    gauges=MATCHER.gauges | {"waiting_entries"},
    warm=(*MATCHER.warm, ("the log", "engine.cluster.cutting:warm")),
)
"""What is a matcher where the product is one node of several."""
ROLES = RoleTable((FRONTEND, *ENGINE_ROLES, QUERY, HTTP))
"""Every process of the product, in the order in which they are told of."""
_OF_A_NODE = RoleTable(CLUSTER_MATCHER if row == MATCHER else row for row in ROLES.rows[1:])


def roles_of(config: Config) -> RoleTable:
    """Return the processes that a product of a configuration consists of."""
    return _OF_A_NODE if config.cluster.enabled else ROLES
