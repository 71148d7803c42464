"""``vacuo.yaml``: sites, pools, issuers, limits; checked whole at start, with exact errors.

A *site* is a provider with its endpoint, images, flavours, limits and prices; a *pool* is a
collector, its schedds and a credential.  Both are data: another cloud or a foreign pool is an
entry here.  ``docs/admin/configuration.md`` documents every field and a test keeps the two equal.
Every scalar at the top level can be overridden by ``VACUO_<NAME>`` in the environment.

What is wrong is told by file, line and field, and never by its value: that may be a secret.
"""

from orchestrator.settings.document import SEARCH_PATH, find, load, scalars, sections
from orchestrator.settings.files import check_files, named_paths
from orchestrator.settings.identity import Issuer
from orchestrator.settings.secrets import Secrets
from orchestrator.settings.sections import (
    Callbacks,
    Flavour,
    ForeignPlaybook,
    Imports,
    Limits,
    Pool,
    Settings,
    Site,
    SiteLimits,
    Templates,
)

__all__ = [
    "SEARCH_PATH",
    "Callbacks",
    "Flavour",
    "ForeignPlaybook",
    "Imports",
    "Issuer",
    "Limits",
    "Pool",
    "Secrets",
    "Settings",
    "Site",
    "SiteLimits",
    "Templates",
    "check_files",
    "find",
    "load",
    "named_paths",
    "scalars",
    "sections",
]
