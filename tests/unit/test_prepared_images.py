"""Which prepared image fits a group, and what is baked into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.configure.ansible import AnsibleConfigurator
from orchestrator.configure.base import HostToConfigure, RoleCall
from orchestrator.configure.run_files import host_variables, play
from orchestrator.configure.simulated import SimulatedConfigurator
from orchestrator.control import image_build, prepared
from orchestrator.control.image_build import OWNER, Bakery, own_installation
from orchestrator.errors import Retryable, Terminal, UserError
from orchestrator.model import (
    Attribute,
    Concat,
    GroupName,
    InstanceId,
    NodeGroup,
    NodeName,
    Offer,
    PreparedImage,
    Rejection,
    Requirements,
    Service,
    SiteName,
    Token,
    UserData,
)
from orchestrator.providers.base import InstanceRequest
from orchestrator.providers.simulated import SimulatedProvider
from orchestrator.settings import Flavour, Settings, Site
from orchestrator.world import Faults, Latencies, World

LATE = Attribute("squid", ("private_address",))
SITE = SiteName("site")
BASE = "localhost/vacuo/host:current"


def group(**variables: Any) -> NodeGroup:
    service = Service("squid", "vacuo.nodes.Squid", "vacuo.site.squid", variables)
    return NodeGroup(GroupName("cache"), Requirements(), (service,))


def offer(image: str = BASE, **fields: Any) -> Offer:
    return replace(Offer(SITE, "small", 1, 1024, 10, image), **fields)


@pytest.mark.parametrize(
    "value",
    [LATE, Concat(("a", LATE)), Token(LATE, ":", 0), [1, LATE], {"a": {"b": (LATE,)}}],
)
def test_what_only_machines_know_is_late(value: Any) -> None:
    assert prepared.is_late(value)
    assert prepared.constants(group(squid_port=3128, squid_peer=value).services[0]) == {
        "squid_port": 3128
    }


@pytest.mark.parametrize("value", ["text", 7, None, True, [1, "a"], {"a": [1]}, ()])
def test_plain_values_are_not(value: Any) -> None:
    assert not prepared.is_late(value)


def test_the_digest_is_of_what_is_baked() -> None:
    plain = prepared.digest(group(squid_port=3128, squid_peer=LATE), "roles")
    same = group(squid_port=3128, squid_peer=Attribute("another", ("private_address",)))
    assert prepared.digest(same, "roles") == plain
    assert prepared.digest(replace(same, name=GroupName("renamed")), "roles") == plain
    others = [
        prepared.digest(group(squid_port=3129, squid_peer=LATE), "roles"),
        prepared.digest(group(squid_port=3128), "roles"),
        prepared.digest(group(squid_port=LATE, squid_peer=LATE), "roles"),
        prepared.digest(same, "other roles"),
        prepared.digest(replace(same, requirements=Requirements(architecture="aarch64")), "roles"),
    ]
    assert len({plain, *others}) == len(others) + 1


def test_an_offer_gets_the_image_made_for_it_and_says_from_what() -> None:
    image = prepared.named(BASE, "aaa")
    (chosen,) = prepared.choose([offer()], "aaa", [prepared.named("other", "aaa"), image])
    assert chosen == offer(image.image, prepared_from=BASE)
    assert prepared.named("other", "aaa").image != image.image


def test_an_image_for_something_else_is_passed_over() -> None:
    rejection = Rejection(SITE, "tiny", "too small")
    candidates = [offer(), rejection]
    images = [prepared.named(BASE, "bbb"), prepared.named("other", "aaa")]
    assert prepared.choose(candidates, "aaa", images) == tuple(candidates)


# --- building -------------------------------------------------------------------------------------


class Bakehouse:
    """A simulated site, and a bakery that works there."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.now = 0.0
        latencies = Latencies(boot=0, configure=0)
        self.world = World(self._clock, latencies=latencies, faults=faults)
        flavours = (Flavour(name="small", cores=1, memory_mb=1024, disk_gb=10),)
        site = Site(name=SITE, provider="simulated", flavours=flavours)
        self.provider = SimulatedProvider(site, self.world)
        configurator = SimulatedConfigurator(self.world, sleep=lambda _: None)
        self.bakery = Bakery(configurator, 60.0, lambda _: None)

    def _clock(self) -> float:
        self.now += 0.5
        return self.now

    def bake(self, force: bool = False) -> Any:
        return self.bakery.bake(SITE, self.provider, group(squid_port=1), offer(), force)


def test_an_image_is_built_once_and_by_force_again() -> None:
    site = Bakehouse()
    first, second, third = site.bake(), site.bake(), site.bake(force=True)
    assert [one.fresh for one in (first, second, third)] == [True, False, True]
    assert list(site.provider.prepared_images()) == [first.image]
    assert first.image.digest == prepared.digest(group(squid_port=1), "simulated")


def test_a_failed_build_leaves_no_image_and_no_host() -> None:
    site = Bakehouse(Faults(configure_fails=1.0))
    with pytest.raises(Terminal, match="as simulated"):
        site.bake()
    assert list(site.provider.prepared_images()) == []
    for _ in range(20):
        site.provider.list(OWNER)
    assert list(site.provider.list(OWNER)) == []


def test_the_host_of_a_build_that_was_killed_goes_with_the_next() -> None:
    site = Bakehouse()
    left = InstanceRequest("image-x", OWNER, NodeName("image-x"), "small", BASE, UserData())
    site.provider.create(left)
    site.bake()
    for _ in range(20):
        site.provider.list(OWNER)
    assert list(site.provider.list(OWNER)) == []


def test_an_engine_that_fails_to_delete_the_host_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Bakehouse()
    delete, refusals = site.provider.delete, iter((True, True))

    def refuse_twice(instance: InstanceId) -> None:
        if next(refusals, False):
            raise Retryable("the container could not be stopped")
        delete(instance)

    monkeypatch.setattr(site.provider, "delete", refuse_twice)
    monkeypatch.setattr(image_build, "TRY_SECONDS", 0.0)
    assert site.bake().fresh
    for _ in range(20):
        site.provider.list(OWNER)
    assert list(site.provider.list(OWNER)) == []


def test_two_builds_of_one_server_do_not_take_each_others_hosts(tmp_path: Path) -> None:
    settings = Settings(data_directory=tmp_path)
    with own_installation(settings) as own:
        assert own.data_directory != tmp_path
        with pytest.raises(UserError, match="Another image build"), own_installation(settings):
            pass
    with own_installation(settings):
        pass


def test_only_the_part_for_images_is_run(tmp_path: Path) -> None:
    call = RoleCall("vacuo.site.squid", "squid", {"squid_port": 1}, entry="prepare")
    host = HostToConfigure(NodeName("image-1"), "192.0.2.1", (), (call,))
    assert "tasks_from: prepare" in play("linear", [host])
    assert "prepare" in host_variables(host)
    whole = replace(host, roles=(replace(call, entry="main"),))
    assert "tasks_from" not in play("linear", [whole])


def test_roles_say_what_can_be_done_beforehand(tmp_path: Path) -> None:
    configurator = AnsibleConfigurator(Settings(data_directory=tmp_path))
    assert configurator.preparation("vacuo.site.container_runtime") == "prepare"
    assert configurator.preparation("somebody.elses.role") is None
    assert len(configurator.roles_digest()) == 64


def test_images_are_chosen_before_anything_is_decided(tmp_path: Path) -> None:
    from api_world import ApiWorld

    world = ApiWorld(tmp_path)
    try:
        spec = world.orchestrator.validate(_submission())
        digest = prepared.digest(spec.groups[0], "simulated")
        image = PreparedImage("prepared:1", "default", digest)
        world.world.prepared.append(image)
        id = world.create()["uuid"]
        (note,) = world.get(f"/deployments/{id}/plan").json["notes"]
        assert "prepared image prepared:1 (its base is default)" in note
        world.passes(id, 2)
        nodes = world.repository.nodes(id)
        assert {node.image for node in nodes} == {"prepared:1"}
    finally:
        world.close()


def _submission() -> Any:
    from api_world import TEMPLATE

    from orchestrator.control.service import Submission

    return Submission(TEMPLATE)
