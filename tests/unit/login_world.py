"""A server whose pool is joined in its owners' names: it keeps logins, and asks its own development
issuer over real HTTP.  Everybody's clock is the world's."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from api_world import ApiWorld, Compiler
from cli_server import Recorded
from werkzeug.serving import make_server

from orchestrator.identity.claims import Caller
from orchestrator.identity.login import IssuerClient, LoginTarget
from orchestrator.model import Attribute, DeploymentId, NodeGroup, NodeState, Principal

HOUR = 3600.0


class Joiners(Compiler):
    """Its workers are given the credential for their pool, and stay."""

    def _workers(self, document: Mapping[str, Any]) -> NodeGroup:
        group = super()._workers({"idle": 1_000_000, **document})
        (service,) = group.services
        token = Attribute("execute", ("join_credential",))
        service = replace(service, variables={**service.variables, "htcondor_execute_token": token})
        assert group.vacuum
        lasting = replace(group.vacuum, lifetime_seconds=1_000_000)
        return replace(group, services=(service,), vacuum=lasting)


class LoginWorld(ApiWorld):
    """``answers`` of the token endpoint that are put there are given instead of the issuer's, one
    after the other; ``asked`` are the forms that it was sent."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self.answers: list[tuple[int, str]] = []
        self.asked: list[bytes] = []
        address = f"127.0.0.1:{self._server.server_port}"
        super().__init__(directory, compiler=Joiners(), owners=address, **options)
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/issuer/token":
            form = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(form)
            self.asked.append(form)
            if self.answers:
                status, body = self.answers.pop(0)
                start_response(f"{status} X", [("Content-Type", "application/json")])
                return [body.encode()]
        return self.app(environ, start_response)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        super().close()

    @property
    def url(self) -> str:
        return self.settings.url

    def person(self, who: str = "alice") -> Principal:
        return Principal(self.issuer.issuer.issuer, who)

    def refresh_token(self, who: str = "alice", scope: str = "offline_access condor:/READ") -> str:
        """A login by the device flow, as the command line does it."""
        issuer = self.issuer.issuer
        target = LoginTarget("d", issuer.issuer, issuer.client_id, issuer.audiences[0], scope)

        def approve(code: Any) -> None:
            form = {"user_code": code.user_code, "user": who, "answer": "approve"}
            assert httpx.post(code.verification_uri, data=form).status_code == 200

        def sleep(seconds: float) -> None:
            self.now += seconds

        found = IssuerClient(target, None, self._clock, sleep).device_flow(approve)
        assert found.refresh_token
        return found.refresh_token

    def bring(self, who: str = "alice", as_: str | None = None) -> Any:
        """Log in as ``who`` and send it as ``as_``."""
        body = {"refreshToken": self.refresh_token(who)}
        return self.send("PUT", "/delegation", body, who=as_ or who)

    def submit(self, template: str = "minimum: 2\n", who: str = "alice", **fields: Any) -> str:
        """A deployment, made with a token as the command line has it."""
        body = {"template": template, **fields}
        answer = self.send("POST", "/deployments", body, who=who)
        assert answer.status_code == 201, answer.text
        id: str = answer.json["uuid"]
        return id

    def hours(self, id: str, count: float, step: float = 300.0) -> None:
        for _ in range(round(count * HOUR / step)):
            self.now += step
            self.loop.run_once(DeploymentId(id))

    def joined(self, id: str) -> list[str]:
        nodes = self.repository.nodes(DeploymentId(id))
        return sorted(node.name for node in nodes if node.state is NodeState.JOINED)

    def codes(self, id: str) -> set[str]:
        return {why.code for why in self.repository.deployment(DeploymentId(id)).reasons}

    def caller(self, token: str, audience: str) -> Caller:
        validator = self.delegation._validator
        return validator.meant_for(audience).validate(f"Bearer {token}")

    def desk(self, home: Path) -> Recorded:
        """The command line of a person here."""
        made = Recorded(url=self.url, home=home)
        made.environment["BEARER_TOKEN"] = self.issuer.mint("alice", groups=("/cms",))
        return made
