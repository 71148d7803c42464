"""Why anything waits or failed: one registry, one text for API, CLI, web and logs.

A :class:`Reason` has a stable code, one sentence, and the next command a person should run.  The
registry below is the only place where those texts are written; ``docs/user/reasons.md`` has an
anchor for each code and a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """One cause, ready to be shown.

    ``code`` is stable and names the anchor in ``docs/user/reasons.md``; ``sentence`` is complete
    and ends in a full stop; ``next_command`` is something to type, or empty when waiting is all
    there is to do.
    """

    code: str
    sentence: str
    next_command: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} Next: {self.next_command}" if self.next_command else self.sentence


@dataclass(frozen=True)
class ReasonText:
    """The template of a reason: ``sentence`` and ``next_command`` take named fields."""

    sentence: str
    next_command: str = ""


REGISTRY: dict[str, ReasonText] = {
    # nothing to wait for
    "as-wished": ReasonText("Nothing waits: the deployment is as its template asks."),
    "deleted": ReasonText("The deployment is deleted; nothing of it is left."),
    "node-in-service": ReasonText("Node {node} is in service.", "vacuo ssh {node}"),
    "node-gone": ReasonText("Node {node} is gone."),
    "node-unfit": ReasonText(
        "Node {node} starts no job until this is mended: {why}.", "vacuo ssh {node}"
    ),
    # waiting for work, and for what a node goes through
    "no-work": ReasonText(
        "No job in pool {pool} waits for a machine like those of group {group}.",
        "vacuo explain {deployment}",
    ),
    "jobs-wait": ReasonText(
        "{jobs} idle jobs ({cores} cores) in pool {pool} would run on group {group}; the oldest "
        "has waited {oldest} s."
    ),
    "machine-requested": ReasonText("Node {node} was asked for at site {site}."),
    "booting": ReasonText(
        "Node {node} boots; it neither answers on ssh nor asks for its configuration yet.",
        "vacuo logs {node}",
    ),
    "pull-nothing": ReasonText("There is nothing to configure on node {node} now."),
    "pull-waits": ReasonText(
        "The configuration of node {node} waits for a value that is not known yet: {why}.",
        "vacuo explain {node}",
    ),
    "waiting-for-group": ReasonText(
        "Node {node} waits for group {group}, which has no address yet.",
        "vacuo status {deployment}",
    ),
    "configuring": ReasonText("Ansible configures node {node}.", "vacuo logs {node} --follow"),
    "reconfiguring": ReasonText(
        "Ansible changes the configuration of node {node}, which stays in service.",
        "vacuo logs {node} --follow",
    ),
    "change-pending": ReasonText(
        "{count} nodes of group {group} still have their earlier configuration; a few at a time "
        "get the new one.",
        "vacuo status {deployment} --watch",
    ),
    "rebuilding": ReasonText(
        "{count} nodes of group {group} are replaced, one after the other, because the template "
        "asks for another size, image or place.",
        "vacuo status {deployment} --watch",
    ),
    "joining": ReasonText(
        "Node {node} is configured and has not appeared in pool {pool} yet.", "vacuo logs {node}"
    ),
    "draining": ReasonText("Node {node} finishes its running jobs before it goes: {why}."),
    "deleting": ReasonText("Node {node} is being deleted at site {site}."),
    "left-the-pool": ReasonText(
        "Node {node} left pool {pool} because it had no work, and powered off."
    ),
    "lifetime-reached": ReasonText("Node {node} reached its lifetime of {seconds} s."),
    "no-longer-wanted": ReasonText("Node {node} is above what group {group} needs now."),
    "replaced": ReasonText(
        "Node {node} is not what group {group} asks for any more; another takes its place."
    ),
    "drain-asked": ReasonText("Node {node} was asked to leave by {who}."),
    "no-dependants": ReasonText("No node uses group {group} any more."),
    "deployment-is-deleted": ReasonText("The deployment is being deleted."),
    # limits
    "at-maximum": ReasonText(
        "Group {group} has {count} nodes, its maximum, and more jobs wait.",
        "raise max_instances in the template and run: vacuo up TEMPLATE --update {deployment}",
    ),
    "maximum-draining": ReasonText(
        "Group {group} may have {maximum} nodes, and {draining} of them finish their jobs before "
        "they make room.",
        "vacuo status {deployment} --watch",
    ),
    "rebuild-waits": ReasonText(
        "The nodes of group {group} are to be replaced, and there is no room for another beside "
        "them, nor may one be missing.",
        "make room at the site, or ask for fewer nodes for a while",
    ),
    "quota-exhausted": ReasonText(
        "Site {site} has no room for another {flavour}: {why}.", "vacuo explain {deployment}"
    ),
    "no-offer": ReasonText(
        "No site can give group {group} what it needs: {why}.", "vacuo plan TEMPLATE"
    ),
    # what cannot be known now
    "site-unreachable": ReasonText(
        "Site {site} does not answer ({why}); nothing is created or deleted there until it does.",
        "vacuo doctor",
    ),
    "pool-unreachable": ReasonText(
        "Pool {pool} does not answer ({why}); its machines count as unknown and none is deleted.",
        "vacuo doctor",
    ),
    "outcome-unknown": ReasonText(
        "Site {site} accepted or lost the request for node {node}; its next listing will tell."
    ),
    "no-sandbox": ReasonText(
        "Ansible runs on the server without a sandbox: {why}.", "apt install bubblewrap"
    ),
    "access-file-unusable": ReasonText(
        "The server's access file was changed and has a mistake: the rules from before are in "
        "force.",
        "vacuo events --kind audit",
    ),
    "secrets-elsewhere": ReasonText(
        "{count} secrets are still {here}, while the settings say that they are kept {there}.",
        "vacuo server move-secrets",
    ),
    # failures
    "create-failed": ReasonText(
        "Site {site} refused node {node}: {why}.", "vacuo explain {deployment}"
    ),
    "boot-timed-out": ReasonText(
        "Node {node} neither answered on ssh nor asked for its configuration within {seconds} s "
        "and is replaced.",
        "vacuo logs {node}",
    ),
    "configure-failed": ReasonText(
        "Ansible failed on node {node}: {why}.", "vacuo logs {node} --failed"
    ),
    "host-key-unknown": ReasonText(
        "Node {node} shows another ssh host key than site {site} tells of. It was sent nothing, "
        "and is replaced.",
        "vacuo logs {node}",
    ),
    "reconfigure-failed": ReasonText(
        "Ansible could not change the configuration of node {node}: {why}. The other nodes are "
        "left as they are, and it is tried again.",
        "vacuo logs {node} --failed",
    ),
    "credential-renewal-failed": ReasonText(
        "Node {node} has not got a new credential for pool {pool} ({why}). It works on, and could "
        "not come back if the pool restarted after the one it has ends; it is tried again.",
        "vacuo ssh {node}",
    ),
    "login-missing": ReasonText(
        "Pool {pool} is joined with a token of the deployment's owner, and the server keeps no "
        "login of theirs. Nothing new joins until it does; what is in service goes on.",
        "vacuo credentials renew",
    ),
    "login-ended": ReasonText(
        "The login that the server keeps of the deployment's owner has ended ({why}). Nothing new "
        "joins pool {pool} until the owner renews it; what is in service goes on.",
        "vacuo credentials renew",
    ),
    "login-refused": ReasonText(
        "The issuer gives no token for pool {pool} in the name of the deployment's owner ({why}). "
        "Nothing new joins until an administrator of the server mends that; what is in service "
        "goes on.",
        "vacuo credentials list",
    ),
    "login-unknown": ReasonText(
        "No token of the deployment's owner for pool {pool} can be had now ({why}). Nothing new "
        "joins until it can; what is in service goes on.",
        "vacuo doctor",
    ),
    "configure-lost": ReasonText(
        "The server stopped while it configured node {node}; the run starts again."
    ),
    "join-timed-out": ReasonText(
        "Node {node} did not join pool {pool} within {seconds} s and is replaced.",
        "vacuo logs {node}",
    ),
    "node-lost": ReasonText(
        "Node {node} is no longer among the instances of site {site}, though nobody deleted it."
    ),
    "machine-lost": ReasonText(
        "Node {node} runs but its machine has been gone from pool {pool} for {seconds} s."
    ),
    "service-lost": ReasonText(
        "Node {node} was configured for services at {address}, which are gone; it is replaced."
    ),
    "delete-failed": ReasonText(
        "Site {site} did not delete node {node} ({why}); the deletion is tried again.",
        "vacuo doctor",
    ),
    "orphan-reaped": ReasonText(
        "Instance {instance} at site {site} carries our tag and belongs to no node; it is deleted."
    ),
    "too-many-failures": ReasonText(
        "{count} nodes of group {group} failed in a row; the next try is in {seconds} s.",
        "vacuo logs {deployment} --failed",
    ),
    "pass-failed": ReasonText(
        "A pass over the deployment failed ({why}) and is tried again in {seconds} s.",
        "vacuo server config",
    ),
    "callback-failed": ReasonText(
        "The callback for {status} was not taken ({why}); it is called again for a day at most."
    ),
    "callback-given-up": ReasonText(
        "The callback for {status} was never taken ({why}) and is called no more.",
        "vacuo status {deployment}",
    ),
    "engine-stopped": ReasonText(
        "The control loop of this server does not run, so nothing is created or deleted.",
        "restart the server: vacuo server",
    ),
    "store-unavailable": ReasonText(
        "The database cannot be written ({why}); nothing is changed until it can.", "vacuo doctor"
    ),
    "not-configured": ReasonText(
        "The template asks for {what}, and the server has none of that name.", "vacuo server config"
    ),
    # why a job waits
    "job-unknown": ReasonText("No schedd of pool {pool} has a job {job}."),
    "job-not-waiting": ReasonText("Job {job} does not wait: it runs or has ended."),
    "job-held": ReasonText("Job {job} is held: {why}.", "condor_release {number}"),
    "pool-is-empty": ReasonText("Job {job} waits: pool {pool} has no machine now."),
    "job-fits-nowhere": ReasonText(
        "Job {job} waits: no machine of pool {pool} meets its requirement {clause}.",
        "condor_q -better-analyze {number}",
    ),
    "machines-refuse-job": ReasonText(
        "Job {job} would run on {machines} machines of pool {pool}, but their START expressions "
        "refuse it.",
        "condor_q -better-analyze {number}",
    ),
    "machines-full": ReasonText(
        "Job {job} waits: all {machines} machines of pool {pool} that would take it are busy."
    ),
    "match-pending": ReasonText(
        "Job {job} fits {machines} machines of pool {pool} and waits for the negotiator."
    ),
    "match-rejected": ReasonText("The negotiator of pool {pool} passed job {job} over: {why}."),
}


# While one of these holds, somebody has to act; it is an event, and called back, when it begins and
# when it ends.
FOR_THE_OWNER = frozenset({"login-missing", "login-ended", "login-refused"})
LOGIN_REASONS = FOR_THE_OWNER | {"login-unknown"}


class _Blank(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return ""


def reason(code: str, **fields: object) -> Reason:
    """The reason ``code`` with its fields filled in.

    A field missing from the sentence is a programming error; one missing from the next command is
    left out of it (commands find the only deployment by themselves).
    """
    text = REGISTRY[code]
    # Errors are whole sentences; here they become parts of one.
    fields = {k: v.rstrip(".") if isinstance(v, str) else v for k, v in fields.items()}
    command = text.next_command.format_map(_Blank(fields)).strip()
    return Reason(code, text.sentence.format(**fields), command)
