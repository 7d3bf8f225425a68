"""The exporter into Kafka: every trade of every shard, once for who reads what is committed.

While Kafka is away nothing is prepared beyond one batch a shard; the journals wait.
"""

import logging
from collections.abc import Callable

from engine.kafka.leading import Leading
from engine.kafka.link import FencedError, KafkaAwayError, KafkaLinkError
from engine.kafka.shard_export import BATCH_COMMANDS, ShardExport
from engine.plan import Plan

logger = logging.getLogger("shardbook.kafka")

PAUSE_S = 0.01
"""Between two looks while little comes: so that a transaction is more than a few trades."""
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0


class Exporter:
    """All shards of a product into topics of Kafka."""

    def __init__(self, plan: Plan) -> None:
        self.shards = [ShardExport(plan, shard) for shard in plan.shards]
        self.failures = 0
        """Tries that failed."""
        self._failure: str | None = None
        self._leading: Leading | None = None
        if plan.config.cluster.enabled:
            self._leading = Leading(plan.config.kafka, plan.config.cluster.node, self._leave)

    @property
    def away(self) -> str | None:
        """Why Kafka could not be written to the last time; None: it could."""
        return self._failure

    def step(self) -> int:
        """Write a batch of each shard; return how many commands and trades that were.

        Raises ``KafkaLinkError``, ``JournalError`` and ``TradeLogError`` where trying again is of
        no use.
        """
        done = 0
        if not self._learn():
            return 0
        for export in self.shards:
            try:
                if self._leading is None or export.shard in self._leading.shards:
                    done += export.step()
                else:
                    export.stand_by()
            except FencedError as error:
                if self._leading is not None:  # another node leads, and the group will say so
                    export.disconnect()
                    continue
                raise KafkaLinkError(
                    f"{error}: another exporter writes shard {export.shard} now; two products "
                    "cannot share a kafka.prefix"
                ) from None
            except (KafkaAwayError, OSError) as error:
                export.disconnect()
                self._note(str(error))
                return 0
        self._note(None)
        return done

    def run(
        self,
        stopping: Callable[[], bool],
        pause: Callable[[float], object],
        orphaned: Callable[[], bool] = lambda: False,
    ) -> None:
        """Export until told to stop and what is there by then is exported, or cannot be; where it
        is ``orphaned`` too, no longer than a batch: its successor goes on from there.

        ``pause`` takes seconds. Raises as ``step`` does.
        """
        retry_s = FIRST_RETRY_S
        while True:
            told = stopping()
            done = self.step()
            if told and (done == 0 or self._failure is not None or orphaned()):
                return
            if self._failure is not None:
                pause(retry_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)
                continue
            retry_s = FIRST_RETRY_S
            if done < BATCH_COMMANDS:
                pause(PAUSE_S)

    def close(self) -> None:
        """Stop following."""
        for export in self.shards:
            export.close()
        if self._leading is not None:
            self._leading.close()

    def _learn(self) -> bool:
        """Learn which shards are to be written here; False where Kafka does not say."""
        try:
            if self._leading is not None:
                self._leading.look()
        except KafkaAwayError as error:
            self._note(str(error))
            return False
        return True

    def _leave(self, shard: int) -> None:
        for export in self.shards:
            if export.shard == shard:
                export.disconnect()

    def _note(self, failure: str | None) -> None:
        """Say once that Kafka is away, and once that it is back."""
        self.failures += failure is not None
        if failure is not None and self._failure is None:
            logger.error("kafka: is held up, and tried again: %s", failure)
        elif failure is None and self._failure is not None:
            logger.warning("kafka: goes on")
        self._failure = failure
