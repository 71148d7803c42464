"""Tokens of an issuer at a real pool, which the role htcondor_pool configured: who is let in as
whom, and who is not.  The issuer is a real one too, with an authority of its own."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pool_worlds import eventually

from orchestrator.batch.htcondor import HTCondorPool
from orchestrator.model import DeploymentId, Machine, NodeName
from testbed.authority import make_key
from testbed.engine import ContainerRequest, TestbedNetwork
from testbed.issuer import TokenIssuer
from testbed.pool import CONTAINER, CondorPool
from testbed.roles import render

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

NOBODY = 65534
SCHEDD = "ap-1@"
AUDIENCE = "https://pool.example.org"
WORK = "compute.read compute.create compute.modify compute.cancel"
JOIN = "condor:/ADVERTISE_STARTD condor:/ADVERTISE_MASTER condor:/READ"
NODE, DEPLOYMENT = NodeName("foreign-1"), DeploymentId("d-scitokens")
EXECUTE = "htcondor_execute"

JOB = """\
executable = /bin/sh
transfer_executable = false
arguments = "-c 'id -un; cat /etc/condor/tokens.d/vacuo; cat /proc/1/environ'"
output = /user/job.out
should_transfer_files = yes
request_memory = 32
request_disk = 10MB
queue
"""


class Place:
    """A pool that knows an issuer, and somebody elsewhere on the network who has HTCondor's tools
    and a token as WLCG's bearer token discovery finds it."""

    def __init__(self, directory: Path) -> None:
        self.network = TestbedNetwork(f"vacuo-sci-{uuid.uuid4().hex[:6]}")
        self.issuer = TokenIssuer(directory / "issuer", self.network)
        # What is called by a name is known by it: a certificate for an address alone is not enough.
        self.collector = f"{self.network.name}-{CONTAINER}:9618"
        self.certificates, self.keys = directory / "certificates", directory / "keys"
        self.user = directory / "user"
        issuers = [{"subject": "alice+1.x", "user": "alice"}, {"subject": "pilot", "node": "pilot"}]
        self.pool = CondorPool(
            directory / "pool",
            self.network,
            variables={
                "htcondor_pool_collector": self.collector,
                "htcondor_pool_name": "ap-1",
                "htcondor_pool_scitokens_audience": [AUDIENCE],
                "htcondor_pool_certificate": "/etc/pool/pool.pem",
                "htcondor_pool_key": "/etc/pool/pool.key",
                "htcondor_pool_configuration": {"COLLECTOR_DEBUG": "D_SECURITY"},
            },
            volumes={
                # As the role's unit has them.
                self.certificates: ("/mnt/certificate", "ro"),
                self.keys: ("/mnt/key", "ro"),
                self.issuer.authority: ("/etc/ssl/certs/ca-certificates.crt", "ro"),
            },
        )
        self.issuers = issuers

    def start(self) -> Place:
        self.network.ensure()
        self.issuer.start()
        self.issuer.certify(self.certificates, [self.collector.partition(":")[0]], "pool")
        self.keys.mkdir(mode=0o700)
        (self.certificates / "pool.key").rename(self.keys / "pool.key")
        self.pool.variables["htcondor_pool_issuers"] = [
            {"issuer": self.issuer.url, **one} for one in self.issuers
        ]
        self.pool.start()
        self.user.mkdir(mode=0o700)
        (self.user / "job.sub").write_text(JOB)
        (self.user / "authority.pem").write_bytes(self.issuer.authority.read_bytes())
        os.chown(self.user, NOBODY, NOBODY)
        self.network.run(
            ContainerRequest(
                "user",
                ["sleep", "infinity"],
                user=str(NOBODY),
                environment={
                    "_CONDOR_COLLECTOR_HOST": self.collector,
                    "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "SCITOKENS",
                    "_CONDOR_AUTH_SSL_CLIENT_CAFILE": "/user/authority.pem",
                    "BEARER_TOKEN_FILE": "/user/token",
                },
                volumes={self.user: ("/user", "rw")},
            )
        )
        return self

    def close(self) -> None:
        self.pool.stop()
        self.network.remove()

    def run(self, token: str, *command: str) -> str:
        """All that the command wrote, run by the one elsewhere who has ``token``."""
        path = self.user / "token"
        path.touch(mode=0o600)
        path.write_text(token)
        os.chown(path, NOBODY, NOBODY)
        return self.network.execute("user", *command)[1]

    def may(self, token: str, *rights: str, daemon: str = "SCHEDD") -> dict[str, str]:
        """Who the daemon takes the holder of ``token`` for, by right; "" where it refuses."""
        name = ["-name", SCHEDD] if daemon == "SCHEDD" else []
        told = self.run(token, "condor_ping", "-table", *name, "-type", daemon, *rights)
        lines = [line.split() for line in told.splitlines()]
        answers = {line[0]: line for line in lines if line and line[0] in rights}
        if not answers and "ERROR: couldn't locate" not in told:
            raise AssertionError(told)
        allowed = {right for right, words in answers.items() if words[1:2] == ["SCITOKENS"]}
        allowed = {right for right in allowed if "ALLOW" in answers[right]}
        return {right: answers[right][-1] if right in allowed else "" for right in rights}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("scitokens"))
    try:
        yield place.start()
    finally:
        place.close()


# --- users ---


@pytest.mark.parametrize("audience", [AUDIENCE, "https://wlcg.cern.ch/jwt/v1/any"])
def test_a_token_is_its_user_as_the_mapfile_says(place: Place, audience: str) -> None:
    token = place.issuer.token("alice+1.x", WORK, aud=audience)
    user = f"alice@{place.pool.trust_domain}"
    assert place.may(token, "READ", "WRITE") == {"READ": user, "WRITE": user}
    assert place.may(token, "ADMINISTRATOR") == {"ADMINISTRATOR": ""}


def test_a_token_gives_no_more_than_its_scopes(place: Place) -> None:
    token = place.issuer.token("alice+1.x", "compute.read")
    seen = place.may(token, "READ", "WRITE")
    assert seen == {"READ": f"alice@{place.pool.trust_domain}", "WRITE": ""}


REFUSED: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "a subject that only begins so": ("alice+1.xy", WORK, {}),
    "a subject that only ends so": ("malice+1.x", WORK, {}),
    "a subject that a pattern would match": ("aliceee1.x", WORK, {}),
    "a subject in other letters": ("ALICE+1.X", WORK, {}),
    "a subject after another": ("mallory,alice+1.x", WORK, {}),
    "another audience": ("alice+1.x", WORK, {"aud": "https://elsewhere.example.org"}),
    "an audience that only begins so": ("alice+1.x", WORK, {"aud": f"{AUDIENCE}.evil.net"}),
    "no audience": ("alice+1.x", WORK, {"aud": None}),
    "an end that is over": ("alice+1.x", WORK, {"exp": 1_700_000_000}),
    "scopes for storage": ("alice+1.x", "storage.read:/", {}),
    "no scope, as INDIGO-IAM's default profile": ("alice+1.x", None, {}),
    "a signature of another key": ("alice+1.x", WORK, {"key": make_key()}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_token_is_refused_for(place: Place, case: str) -> None:
    subject, scope, claims = REFUSED[case]
    token = place.issuer.token(subject, scope, **claims)
    assert place.may(token, "READ", "WRITE") == {"READ": "", "WRITE": ""}


def test_a_good_token_of_an_issuer_whose_address_only_begins_so_is_refused(place: Place) -> None:
    token = place.issuer.token("alice+1.x", WORK, iss=place.issuer.other)
    assert place.may(token, "READ", "WRITE") == {"READ": "", "WRITE": ""}
    log = place.pool.execute("cat", "/var/log/condor/CollectorLog")[1]
    # Its signature was good: it is the mapfile that does not know it.
    unknown = f"Failed to map SCITOKENS authenticated identity '{place.issuer.other},alice+1.x'"
    assert unknown in log


# --- machines ---


def test_only_the_one_who_may_lets_machines_join_and_nothing_else(place: Place) -> None:
    rights = ("ADVERTISE_STARTD", "ADVERTISE_MASTER")
    pilot = place.issuer.token("pilot", f"{JOIN} condor:/WRITE")
    name = f"pilot@nodes.{place.pool.trust_domain}"
    assert place.may(pilot, *rights, daemon="COLLECTOR") == dict.fromkeys(rights, name)
    assert place.may(pilot, "WRITE") == {"WRITE": ""}
    user = place.issuer.token("alice+1.x", f"{JOIN} condor:/WRITE")
    assert place.may(user, *rights, daemon="COLLECTOR") == dict.fromkeys(rights, "")


@pytest.fixture
def foreign(place: Place, tmp_path: Path) -> Iterator[HTCondorPool]:
    """Vacuo at this pool as at somebody else's: without a key, with a token in a file."""
    token = tmp_path / "join-token"
    token.touch(mode=0o600)
    token.write_text(place.issuer.token("pilot", JOIN))
    settings = place.pool.settings("foreign").model_copy(
        update={"signing_key_directory": None, "options": {"join_token_file": str(token)}}
    )
    pool = HTCondorPool(settings, tmp_path / "data")
    yield pool
    pool.close()


def startd_helper(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("vacuo_startd_of_scitokens", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def start_worker(place: Place, pool: HTCondorPool, directory: Path) -> None:
    """A startd as the role htcondor_execute configures it and its unit prepares it."""
    credential, known = pool.join_credential(DEPLOYMENT, NODE), pool.join_attributes()
    variables = {
        f"{EXECUTE}_collector": place.collector,
        f"{EXECUTE}_trust_domain": known["trust_domain"],
        f"{EXECUTE}_administrator": known["administrator"],
        f"{EXECUTE}_node": NODE,
        f"{EXECUTE}_deployment": DEPLOYMENT,
        f"{EXECUTE}_cores": 1,
        f"{EXECUTE}_memory_mb": 512,
        f"{EXECUTE}_scratch_directory": "/var/lib/condor/execute",
        f"{EXECUTE}_configuration": {"AUTH_SSL_CLIENT_CAFILE": "/mnt/authority.pem"},
    }
    made, tokens = directory / "startd", directory / "startd" / "tokens"
    tokens.mkdir(parents=True, mode=0o700)
    files = {"50-vacuo.conf": "50-vacuo.conf.j2", "helper.py": "vacuo-startd.j2"}
    render(made, {name: (EXECUTE, source, variables) for name, source in files.items()})
    (tokens / "vacuo").touch(mode=0o600)
    (tokens / "vacuo").write_text(credential.token + "\n")
    (made / "key").write_text(credential.drain_key)
    helper = startd_helper(made / "helper.py")
    helper.TOKEN, helper.KEY = str(tokens / "vacuo"), str(made / "key")
    helper.RUN, helper.CHECK = str(made / "run"), str(made / "check/none")
    helper.LOGS = helper.SCRATCH = str(made / "unused")
    helper.prepare()
    place.network.run(
        ContainerRequest(
            NODE,
            ["tini", "--", "condor_master", "-f"],
            volumes={
                made / "50-vacuo.conf": ("/etc/condor/config.d/50-vacuo.conf", "ro"),
                made / "run/host": ("/etc/condor/host", "ro"),
                tokens: ("/etc/condor/tokens.d", "ro"),
                made / "run/keys": ("/etc/condor/passwords.d", "ro"),
                place.issuer.authority: ("/mnt/authority.pem", "ro"),
            },
        )
    )


def test_a_job_sent_with_a_token_runs_on_a_machine_that_joined_with_one(
    place: Place, foreign: HTCondorPool, tmp_path: Path
) -> None:
    start_worker(place, foreign, tmp_path)

    def machine() -> Machine | None:
        return next((one for one in foreign.machines() if one.node == NODE), None)

    eventually(machine, "the machine joining")
    token = place.issuer.token("alice+1.x", WORK)
    told = place.run(token, "condor_submit", "-remote", SCHEDD, "-spool", "/user/job.sub")
    found = re.search(r"submitted to cluster (\d+)", told)
    assert found, told
    look = ("condor_q", "-name", SCHEDD, found[1], "-af", "JobStatus", "User")
    eventually(lambda: place.run(token, *look).split()[:1] == ["4"], "the job ending")
    assert place.run(token, *look).split() == ["4", f"alice@{place.pool.trust_domain}"]
    place.run(token, "condor_transfer_data", "-name", SCHEDD, found[1])
    # That is all: the machine's token, which joined with it, is not for jobs to read.
    assert (place.user / "job.out").read_text() == "nobody\n"
    reader = place.issuer.token("alice+1.x", "compute.read")
    place.run(reader, "condor_rm", "-name", SCHEDD, found[1])
    assert place.run(token, *look).split()[:1] == ["4"]  # who may only read removes nothing

    foreign.drain(DEPLOYMENT, NODE)
    drained = eventually(lambda: (one := machine()) is None or one.draining, "its draining")
    assert drained
    assert time.time() < foreign.join_credential(DEPLOYMENT, NODE).expires_at
