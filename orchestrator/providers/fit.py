"""Whether a flavour has what one host must have.  Pure; every provider asks here."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model import Requirements
from orchestrator.settings import Flavour


def lacks(flavour: Flavour, need: Requirements) -> str:
    """What the flavour has too little of, as half a sentence; empty where it fits."""
    for what, has, wants in (
        ("cores", flavour.cores, need.cores),
        ("MiB of memory", flavour.memory_mb, need.memory_mb),
        ("GiB of disk", flavour.disk_gb, need.disk_gb),
    ):
        if has < wants:
            return f"has {has} {what}, {wants} are needed"
    return ""


def exceeds(flavour: Flavour, cores: int, memory_mb: int, disk_gb: int) -> str:
    """What the flavour has more of than the machine that it is to be cut from; empty where none."""
    for what, has, there in (
        ("cores", flavour.cores, cores),
        ("MiB of memory", flavour.memory_mb, memory_mb),
        ("GiB of disk", flavour.disk_gb, disk_gb),
    ):
        if has > there:
            return f"has {has} {what}, this machine has {there}"
    return ""


def unmapped(images: Mapping[str, str], name: str) -> str:
    """Why an image that is asked for by an address, such as ``ost://host/uuid``, cannot be had
    here; empty where it can.  A bare name may be one that only the provider knows."""
    if "://" not in name or name in images:
        return ""
    return f"nothing stands for the image {name} in the `images` of the site's configuration"
