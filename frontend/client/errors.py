"""Each way the client library can fail has an exception here; all are ``ClientError``."""

import numpy as np
import numpy.typing as npt


class ClientError(Exception):
    """Base of everything that the client library raises on purpose."""


class ConnectError(ClientError):
    """No connection: nobody listens there, or no welcome came in time."""


class LoginRefusedError(ConnectError):
    """The engine answered the login by closing, and said why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"login refused: {code}: {text}")
        self.code = code
        self.text = text


class ConnectionLostError(ClientError):
    """The connection ended, and with it the reports that were under way."""


class ClosedError(ConnectionLostError):
    """The engine closed the connection, and said why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"closed by the engine: {code}: {text}")
        self.code = code
        self.text = text


class ReportGapError(ConnectionLostError):
    """A report did not follow on the one before it, so that the connection was given up."""

    def __init__(self, shard: int, came: int, wanted: int) -> None:
        super().__init__(f"shard {shard}: report {came} of the account came in place of {wanted}")


class NotCarriedOutError(ClientError):
    """A command did not reach its matcher, which died and serves again: it may be sent again."""

    def __init__(self, request_id: int, client_order_id: int | str) -> None:
        super().__init__(
            f"command {request_id} (client_order_id {client_order_id}) was not carried out: its "
            "matcher died before it took it"
        )
        self.request_id = request_id
        self.client_order_id = client_order_id


class UnknownOutcomeError(ConnectionLostError):
    """The connection ended before a command was answered: it may have been carried out or not.

    Where the connection was made anew, what was reported since does not tell. It may still come.
    Nothing is sent again by itself. A new order with a ``client_order_id`` may be: where it had
    arrived, the repetition is rejected as a duplicate and names the first one's order_id.
    ``__cause__`` tells how the connection ended.
    """

    def __init__(self, request_id: int, client_order_id: int | str) -> None:
        super().__init__(
            f"the connection ended before command {request_id} was answered "
            f"(client_order_id {client_order_id})"
        )
        self.request_id = request_id
        self.client_order_id = client_order_id


class AnswerTimeoutError(ClientError, TimeoutError):
    """No answer in time. The command may still be carried out; its answer becomes a report."""


class IncompleteArrayError(ClientError):
    """Not every command of an array was answered: ``__cause__`` is why.

    ``answers`` has a ``command_type`` of 0 where there is no answer. The first ``sent`` commands
    were sent: of those without an answer the outcome is unknown. The rest was not sent.
    """

    def __init__(
        self, answers: npt.NDArray[np.void], answered: int, sent: int, cause: ClientError
    ) -> None:
        super().__init__(f"{len(answers)} commands, {sent} sent, {answered} answered: {cause}")
        self.answers = answers
        self.answered = answered
        self.sent = sent


class OrderRejectedError(ClientError):
    """The engine did not carry out a command or a query: ``field`` breaks the rule in ``text``.

    ``code`` is a value of ``ipc.vocabulary.Reason``. For a duplicate client_order_id ``order_id``
    is the first order's.
    """

    def __init__(
        self,
        code: int,
        code_name: str,
        field: str,
        text: str,
        request_id: int = 0,
        order_id: int = 0,
        client_order_id: int | str = 0,
    ) -> None:
        super().__init__(f"{code_name}: {field} {text}")
        self.code = code
        self.code_name = code_name
        self.field = field
        self.text = text
        self.request_id = request_id
        self.order_id = order_id
        self.client_order_id = client_order_id


class InvalidOrderError(ClientError, ValueError):
    """A command that cannot be written down for the engine; nothing was sent."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field
        self.text = text


class ProtocolError(ClientError):
    """What came is not this protocol; the connection is closed."""


class MissedReportsError(ClientError):
    """``count`` reports are missing here: dropped because nobody read them, the oldest first, or
    no longer kept by the engine when the connection was made anew."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} reports were missed: dropped unread, or no longer to be had")
        self.count = count
