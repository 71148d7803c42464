"""The port to a site: what every provider must do, checked by ``tests/conformance``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.model import (
    DeploymentId,
    Instance,
    InstanceId,
    NodeName,
    Offer,
    PreparedImage,
    Quota,
    Rejection,
    Requirements,
    UserData,
)


@dataclass(frozen=True)
class InstanceRequest:
    """One host to be created.  ``name`` is unique for ever and is the idempotency key."""

    name: str
    owner: DeploymentId
    node: NodeName
    flavour: str
    image: str
    user_data: UserData


class Provider(Protocol):
    """A site's infrastructure.  Every method may raise the subclasses of
    :class:`orchestrator.errors.PortError`; none ever answers with an empty list because it could
    not look."""

    def offers(self, need: Requirements) -> Sequence[Offer | Rejection]:
        """The flavours that fit, cheapest or smallest first, and why the others do not."""
        ...

    def quota(self) -> Quota: ...

    def list(self, owner: DeploymentId | None) -> Sequence[Instance]:
        """Every instance of this installation (or of one deployment), stopped ones included."""
        ...

    def create(self, request: InstanceRequest) -> InstanceId:
        """Create the host, or find the one that already has ``request.name``."""
        ...

    def delete(self, instance: InstanceId) -> None:
        """Delete the instance and all that came with it; an absent one is a success."""
        ...

    def console(self, instance: InstanceId, lines: int) -> str:
        """The last ``lines`` lines of the boot console."""
        ...

    def prepared_images(self) -> Sequence[PreparedImage]:
        """The images there are that :meth:`keep_image` made and whose base is still the same;
        none where the site keeps no images."""
        ...

    def keep_image(self, instance: InstanceId, name: PreparedImage) -> None:
        """Make an image of a host as it is now, without what is its own (host keys, machine id,
        logs, ways in); the host does not survive it.

        Raises :class:`~orchestrator.errors.Unsupported` where the site keeps no images.
        """
        ...

    def host_keys(self, instance: InstanceId) -> Sequence[str]:
        """The ssh host keys (``ssh-ed25519 AAAA…``), read over a channel that the network between
        cannot forge; :class:`~orchestrator.errors.Retryable` while they do not exist yet."""
        ...
