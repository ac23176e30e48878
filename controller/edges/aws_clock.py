"""Signatures that AWS takes though this machine's wall clock is wrong.

AWS refuses a request that is signed more than five minutes off its own time (Signature Version 4). Its answer bears its time, so
what is signed next is signed by that. A failover must not fail for a clock that nobody set.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import botocore.auth

from redis_agent.clock import wall

logger = logging.getLogger(__name__)
TOLERATED = timedelta(minutes=1)
_STAMP = "%Y%m%dT%H%M%SZ"


class CorrectedSigV4Auth(botocore.auth.SigV4Auth):  # type: ignore[misc]
    """botocore's, by AWS's time. The machine has one clock, so what is learned of it holds for every client in the process."""

    ahead: ClassVar[timedelta] = timedelta()
    """How far AWS's time is ahead of this machine's."""

    def _modify_request_before_signing(self, request: Any) -> None:
        if self.ahead:
            signed_at = datetime.strptime(request.context["timestamp"], _STAMP).replace(tzinfo=UTC) + self.ahead
            request.context["timestamp"] = signed_at.strftime(_STAMP)
        super()._modify_request_before_signing(request)


def install() -> None:
    """Sign with it from now on, in this process."""
    botocore.auth.AUTH_TYPE_MAPS["v4"] = CorrectedSigV4Auth


def learn(headers: Mapping[str, str]) -> bool:
    """Take AWS's time from an answer's headers; whether it differs from what we signed by, so that another try is worth it."""
    try:
        told = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return False
    ahead = told - wall()
    if abs(ahead - CorrectedSigV4Auth.ahead) <= TOLERATED:
        return False
    logger.warning(
        "this machine's wall clock is off by %.0f s against AWS's; requests are signed by theirs", ahead.total_seconds()
    )
    CorrectedSigV4Auth.ahead = ahead if abs(ahead) > TOLERATED else timedelta()
    return True
