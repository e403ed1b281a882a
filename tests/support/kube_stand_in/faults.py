"""What the API does instead of answering, and how it refuses."""

from enum import Enum


class Fault(Enum):
    """What the API does instead of answering; the requests still reach it, except when it is `DOWN`."""

    NONE = "none"
    DOWN = "down"
    UNAUTHORIZED = "401"
    FORBIDDEN_LIST = "403 for lists of Secrets"
    CONFLICT = "409 for what is created"
    TOO_MANY_CREATED = "429 for what is created"
    LOST = "what is created is, and its answer does not arrive"
    GONE = "410 for what is watched"
    TOO_MANY_REQUESTS = "429"
    INTERNAL = "500"
    HANG = "hang"
    NONSENSE = "an answer that is not JSON"


class Refusal(Exception):
    """An answer with an error code, as a Status object."""

    def __init__(self, code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.headers = headers or {}

    @property
    def status(self) -> dict[str, object]:
        """The Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }
