"""The bounded queue of what an engine tells a client and no call waited for.

It holds messages as they came one by one, and REPORT arrays as they came in bulk, in one order; a
report means the same in either form, and is turned into the form that the reader wants. The newest
``max_reports`` are kept: older ones are dropped, counted, and told by ``MissedReportsError`` to
whoever reads next.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from frontend.client.commands import ServerMessage
from frontend.client.errors import MissedReportsError
from ipc.arrays import Records
from ipc.records import REPORT
from ipc.wire.client_codec import report_messages, report_records
from ipc.wire.messages import MassCancelReport, Reject, Report


class ReportQueue:
    """Messages and blocks of reports, oldest first."""

    def __init__(self, max_reports: int) -> None:
        self.missed = 0
        """Dropped so far because nobody read them."""
        self._untold = 0
        self._max_reports = max_reports
        self._items: deque[ServerMessage | Records] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def has_news(self) -> bool:
        """Whether anything is in the queue, or is missing from it and was not told."""
        return bool(self._count or self._untold)

    def extend(self, messages: Sequence[ServerMessage]) -> None:
        """Append messages."""
        self._items.extend(messages)
        self._count += len(messages)
        self._bound()

    def extend_records(self, reports: Records) -> None:
        """Append reports (REPORT), none of which is a reject or of a mass cancel."""
        if len(reports):
            self._items.append(reports)
            self._count += len(reports)
            self._bound()

    def drop(self, count: int) -> None:
        """Take the ``count`` oldest out of the queue, unread."""
        self.miss(count)
        self._count -= count
        while count:
            item = self._items.popleft()
            if isinstance(item, np.ndarray):
                if len(item) > count:
                    self._items.appendleft(item[count:])
                count -= min(count, len(item))
            else:
                count -= 1

    def miss(self, count: int) -> None:
        """Count what is missing, and have it told to whoever reads next."""
        self.missed += count
        self._untold += count

    def pop_message(self) -> ServerMessage | None:
        """Return and take the oldest message, None where there is none.

        Raises ``MissedReportsError``, once a gap.
        """
        self._tell_missed()
        if not self._count:
            return None
        item = self._items.popleft()
        if isinstance(item, np.ndarray):
            # All of the block at once: taken one by one, each would cost as much as all.
            self._items.extendleft(reversed(report_messages(item)))
            item = self._items.popleft()
        self._count -= 1
        assert not isinstance(item, np.ndarray)
        return item

    def pop_messages(self) -> list[ServerMessage]:
        """Return and take everything. Raises ``MissedReportsError``, once a gap."""
        self._tell_missed()
        messages: list[ServerMessage] = []
        for item in self._take():
            if isinstance(item, np.ndarray):
                messages += report_messages(item)
            else:
                messages.append(item)
        return messages

    def pop_records(self) -> Records:
        """Return and take everything, what cannot be told as a REPORT left out.

        Raises ``MissedReportsError``, once a gap.
        """
        self._tell_missed()
        parts: list[Records] = [np.zeros(0, REPORT)]
        single: list[Report | Reject | MassCancelReport] = []
        for item in self._take():
            if isinstance(item, np.ndarray):
                parts += [report_records(single), item]
                single = []
            elif isinstance(item, Report | Reject | MassCancelReport):
                single.append(item)
        # np.concatenate would look for a type common to all parts, field by field.
        parts.append(report_records(single))
        return np.frombuffer(bytearray().join([part.data for part in parts]), REPORT)

    def _take(self) -> list[ServerMessage | Records]:
        items = list(self._items)
        self._items.clear()
        self._count = 0
        return items

    def _bound(self) -> None:
        if self._count > self._max_reports:
            self.drop(self._count - self._max_reports)

    def _tell_missed(self) -> None:
        if self._untold:
            count, self._untold = self._untold, 0
            raise MissedReportsError(count)
