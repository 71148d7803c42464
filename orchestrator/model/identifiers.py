"""The names by which everything is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

DeploymentId = NewType("DeploymentId", str)
NodeName = NewType("NodeName", str)
InstanceId = NewType("InstanceId", str)
IntentId = NewType("IntentId", str)
GroupName = NewType("GroupName", str)
SiteName = NewType("SiteName", str)
PoolName = NewType("PoolName", str)
JobId = NewType("JobId", str)


@dataclass(frozen=True)
class Principal:
    """Who acts: an issuer and a subject in it; the same subject of two issuers is two people."""

    issuer: str
    subject: str

    def __str__(self) -> str:
        return f"{self.subject}@{self.issuer}"
