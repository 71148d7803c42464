"""Where the next node goes: the first offer that fits and has room.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.model import (
    NodeGroup,
    Observed,
    Offer,
    Quota,
    Rejection,
    SiteName,
)
from orchestrator.reasons import Reason, reason


@dataclass(frozen=True)
class Placement:
    """The chosen offers, one a node; what was rejected; the ``room`` that is left for the next
    group; and why fewer than asked were placed."""

    chosen: tuple[Offer, ...]
    rejected: tuple[Rejection, ...]
    room: Mapping[SiteName, Observed[Quota]]
    reason: Reason | None = None


def place(
    group: NodeGroup,
    count: int,
    candidates: Iterable[Offer | Rejection],
    quotas: Mapping[SiteName, Observed[Quota]],
) -> Placement:
    """Choose offers for ``count`` nodes of ``group``; each node placed uses up its site's quota.

    Offers with a known price come cheapest first; the order of the candidates (the sites' order in
    the configuration) decides between equals and where no price is known.
    """
    offers, rejected = split(group, candidates)
    room = dict(quotas)
    chosen: list[Offer] = []
    full: list[Rejection] = []
    for _ in range(count):
        full = []
        offer = next((o for o in offers if not _blocked(o, room.get(o.site), full)), None)
        if offer is None:
            break
        chosen.append(offer)
        room[offer.site] = _take(room[offer.site], offer)
    why = None if len(chosen) == count else _why(group, offers, full, rejected)
    return Placement(tuple(chosen), (*rejected, *full), room, why)


def split(
    group: NodeGroup, candidates: Iterable[Offer | Rejection]
) -> tuple[Sequence[Offer], list[Rejection]]:
    """The offers that ``group`` may take, best first, and why the others are not for it."""
    offers: list[Offer] = []
    rejected: list[Rejection] = []
    for candidate in candidates:
        if isinstance(candidate, Rejection):
            rejected.append(candidate)
        elif group.site and candidate.site != group.site:
            why = f"the template asks for site {group.site}"
            rejected.append(Rejection(candidate.site, candidate.flavour, why))
        else:
            offers.append(candidate)
    if all(offer.price_per_hour is not None for offer in offers):
        offers.sort(key=lambda o: o.price_per_hour or 0.0)
    return offers, rejected


def _blocked(offer: Offer, quota: Observed[Quota] | None, into: list[Rejection]) -> bool:
    why = _no_room(offer, quota)
    if why:
        into.append(Rejection(offer.site, offer.flavour, why))
    return why is not None


def _no_room(offer: Offer, observed: Observed[Quota] | None) -> str | None:
    if observed is None or not observed.is_fresh:
        return "its quota is not known now"
    quota = observed.value
    for what, limit, used, more in (
        ("instances", quota.instances, quota.instances_used, 1),
        ("cores", quota.cores, quota.cores_used, offer.cores),
        ("MiB of memory", quota.memory_mb, quota.memory_mb_used, offer.memory_mb),
    ):
        if limit is not None and used + more > limit:
            return f"{used} of {limit} {what} are used"
    return None


def _take(observed: Observed[Quota], offer: Offer) -> Observed[Quota]:
    quota = observed.value
    return Observed.fresh(
        replace(
            quota,
            instances_used=quota.instances_used + 1,
            cores_used=quota.cores_used + offer.cores,
            memory_mb_used=quota.memory_mb_used + offer.memory_mb,
        ),
        observed.at,
    )


def _why(
    group: NodeGroup,
    offers: Sequence[Offer],
    full: Sequence[Rejection],
    rejected: Sequence[Rejection],
) -> Reason:
    if not offers:
        why = "; ".join(f"{r.site}/{r.flavour}: {r.why}" for r in rejected) or "no site is known"
        return reason("no-offer", group=group.name, why=why)
    first = full[0]
    return reason("quota-exhausted", site=first.site, flavour=first.flavour, why=first.why)
