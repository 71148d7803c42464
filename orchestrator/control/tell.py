"""Events as log records: what happened stands in the log as it stands in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from orchestrator.model import Event

log = logging.getLogger("vacuo.events")


def tell(events: Iterable[Event]) -> None:
    """Log ``events``, those that tell of a failure as warnings, with whose they are."""
    for event in events:
        fields = {
            "deployment": event.deployment,
            "node": event.node,
            "correlation": event.correlation or None,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        level = logging.WARNING if event.failed else logging.INFO
        log.log(level, "%s", event.message, extra=known)
