"""Another name of `nbd.engine`, until nobody uses it."""

from nbd.engine import HANDSHAKE_S, Phase, Session

__all__ = ["HANDSHAKE_S", "Phase", "Session"]
