"""What an HTTP client is told when something is wrong: status, code, message, field and rule.

One exception, ``ApiError``, carries all of it; nothing else leaves a worker as an error.
"""

from typing import Any

import msgspec

from frontend.http.models import ErrorBody
from ipc.decimals import clipped
from ipc.schema.declarations import FIELDS
from ipc.vocabulary import RULES, Reason
from ipc.wire.messages import Reject

RETRY_AFTER = ((b"retry-after", b"1"),)

STATUS_OF_CODE: dict[str, int] = {
    "INVALID_REQUEST": 400,
    "INVALID_USER_ID": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "ORDER_NOT_OPEN": 409,
    "BODY_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "TOO_MANY_REQUESTS": 429,
    "HEADERS_TOO_LARGE": 431,
    "INTERNAL": 500,
    "OUTCOME_UNKNOWN": 503,
}
"""Every code there is: HTTP's own, and below the reasons'."""

_CODE_OF_REASON = {reason: reason.http_code or reason.name for reason in RULES}
_CODE_OF_FIELD = {
    field.rest: field.reason.name
    for field in FIELDS
    # A symbol that is no text names no instrument, known or unknown.
    if field.rest and field.reason and field.name != "symbol"
} | {"user_id": "INVALID_USER_ID"}

for _reason, _code in _CODE_OF_REASON.items():
    if STATUS_OF_CODE.setdefault(_code, _reason.http_status) != _reason.http_status:
        raise ValueError(f"{_reason.name}: {_code} has another HTTP status")


class ApiError(Exception):
    """An answer that is an error. ``details`` name the field and the rule where there are any."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS_OF_CODE[code]
        self.details = details

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What the answer's headers say beside the usual."""
        if self.code == "UNAUTHORIZED":
            return ((b"www-authenticate", b"Bearer"),)
        if self.code == "METHOD_NOT_ALLOWED":
            return ((b"allow", ", ".join(self.details["allowed"]).encode()),)
        return RETRY_AFTER if self.status in (429, 503) else ()

    def body(self) -> ErrorBody:
        """Return what stands under ``error``."""
        return ErrorBody(self.code, str(self), self.details)


def broken_rule(field: str, rule: str, code: str = "") -> ApiError:
    """Return the error of a field of a request that breaks a rule."""
    code = code or _CODE_OF_FIELD.get(field.rpartition(".")[2], "INVALID_REQUEST")
    return ApiError(code, f"{field}: {rule}" if field else rule, field=field, rule=rule)


def of_validation(error: msgspec.ValidationError) -> ApiError:
    """Return what msgspec found, as field and rule."""
    problem, _, where = str(error).partition(" - at `$")
    rule = clipped(problem.replace("`", "").replace(" | null", ""))
    field = clipped(where.rstrip("`").strip("."))
    if rule.startswith(("Object missing required field ", "Object contains unknown field ")):
        words, _, name = problem.partition(" field ")
        name = clipped(name.strip("`"))
        field = f"{field}.{name}" if field else name
        rule = "must be given" if "missing" in words else "is not a field of this request"
        if "missing" not in words:
            return broken_rule(field, rule, "INVALID_REQUEST")
    return broken_rule(field, rule)


def of_reject(reject: Reject) -> ApiError:
    """Return what a matcher or a frontend refused, and why."""
    reason = Reason(reject.code)
    code = _CODE_OF_REASON[reason]
    details: dict[str, Any] = {"field": reject.field, "rule": reject.text}
    if reason == Reason.DUPLICATE_CLIENT_ORDER_ID and reject.order_id:
        details["order_id"] = reject.order_id
    return ApiError(code, f"{reject.field}: {reject.text}", **details)
