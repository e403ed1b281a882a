"""How long to wait before what failed is tried again. Pure."""

LONGEST_S = 20.0
LONGEST_RETRY_AFTER_S = 60.0


def pause_s(failures: int, after_s: float | None) -> float:
    """Return the seconds to wait after so many failures before this one; not less than the API asked for.

    How much is sent to an API server that fails is limited by `pxeboot.kube.gate`, for all together.

    >>> pause_s(0, None), pause_s(3, None), pause_s(0, 7.0)
    (1.0, 8.0, 7.0)
    """
    return max(min(LONGEST_S, 2.0 ** min(failures, 10)), min(after_s or 0.0, LONGEST_RETRY_AFTER_S))
