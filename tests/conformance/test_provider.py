"""What being a provider means.  One suite, run against every provider in ``WORLDS``.

``local`` is the real engine of this machine: where there is none, or no image, it fails and says
so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from provider_worlds import (
    HUGE,
    LIMITS,
    WORLDS,
    ProviderWorld,
    all_at_once,
    created,
    listed,
    request,
)

from orchestrator.errors import OutcomeUnknown, QuotaExceeded, Retryable, Terminal
from orchestrator.model import (
    DeploymentId,
    InstanceId,
    InstanceState,
    Offer,
    Rejection,
    Requirements,
)
from orchestrator.providers.base import Provider
from testbed.waiting import eventually

STOPPED, STARTING, RUNNING = InstanceState.STOPPED, InstanceState.STARTING, InstanceState.RUNNING
REAL = {"local"}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.real] * (name in REAL)) for name in WORLDS]
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProviderWorld]:
    world = WORLDS[request.param](tmp_path)
    yield world
    world.close()


@pytest.fixture
def provider(world: ProviderWorld) -> Provider:
    return world.provider


def names(provider: Provider, owner: str | None) -> set[str]:
    found = provider.list(DeploymentId(owner) if owner else None)
    return {one.name for one in found if one.state is not InstanceState.DELETING}


def test_an_image_that_nothing_stands_for_is_no_offer_and_says_so(provider: Provider) -> None:
    found = provider.offers(
        Requirements(memory_mb=64, disk_gb=1, image="ost://cloud.example.org/1234")
    )
    assert found
    assert all(isinstance(one, Rejection) for one in found)
    assert "ost://cloud.example.org/1234" in found[0].why


def test_a_new_host_is_listed_and_gets_an_address(provider: Provider) -> None:
    wanted = request()
    identifier = created(provider, wanted)
    assert names(provider, "alice") == {wanted.name}
    instance = listed(provider, wanted.name, RUNNING)
    assert instance.id == identifier
    assert (instance.owner, instance.node) == (wanted.owner, wanted.node)
    assert instance.address
    assert instance.created_at > 0


def test_creating_twice_by_one_name_makes_one_host(provider: Provider) -> None:
    wanted = request()
    assert created(provider, wanted) == created(provider, wanted)
    assert len(provider.list(None)) == 1


def test_creating_at_the_same_time_by_one_name_makes_one_host(provider: Provider) -> None:
    wanted = request()
    identifiers = all_at_once(4, lambda: provider.create(wanted))
    assert len(identifiers) == 4
    assert len(set(identifiers)) == 1
    assert len(provider.list(None)) == 1


def test_an_owner_sees_only_its_own_hosts_and_nobody_in_particular_sees_all(
    provider: Provider,
) -> None:
    hers, his = request(owner="alice"), request(owner="bob")
    created(provider, hers)
    created(provider, his)
    assert names(provider, "alice") == {hers.name}
    assert names(provider, "bob") == {his.name}
    assert names(provider, "carol") == set()
    assert names(provider, None) == {hers.name, his.name}


def test_a_deleted_host_is_gone_and_deleting_again_is_a_success(provider: Provider) -> None:
    wanted = request()
    identifier = created(provider, wanted)
    provider.delete(identifier)
    provider.delete(identifier)
    assert names(provider, None) == set()


def test_deleting_what_never_was_is_a_success(provider: Provider) -> None:
    provider.delete(InstanceId("0" * 64))


def test_a_host_that_powers_itself_off_is_listed_as_stopped_until_it_is_deleted(
    world: ProviderWorld,
) -> None:
    wanted = request()
    created(world.provider, wanted)
    world.power_off(listed(world.provider, wanted.name, RUNNING))
    instance = listed(world.provider, wanted.name, STOPPED)
    world.provider.delete(instance.id)
    assert names(world.provider, None) == set()


def test_quota_counts_what_is_used_and_gives_it_back(provider: Provider) -> None:
    before = provider.quota()
    identifier = created(provider, request())
    quota = provider.quota()
    assert quota.instances == LIMITS.instances
    assert quota.instances_used == before.instances_used + 1 == 1
    assert quota.cores_used == 1
    assert quota.memory_mb_used == 512
    assert quota.cores == LIMITS.cores
    assert quota.memory_mb
    provider.delete(identifier)
    assert names(provider, None) == set()


def test_a_host_above_the_limit_is_refused_as_a_quota(provider: Provider) -> None:
    for _ in range(LIMITS.instances or 0):
        provider.create(request())
    with pytest.raises(QuotaExceeded):
        provider.create(request())
    assert len(provider.list(None)) == LIMITS.instances


def test_a_flavour_that_the_site_does_not_have_is_refused_for_good(provider: Provider) -> None:
    with pytest.raises(Terminal, match="giant"):
        provider.create(request(flavour="giant"))
    assert names(provider, None) == set()


def test_offers_hold_what_fits_and_say_why_the_rest_does_not(provider: Provider) -> None:
    answers = provider.offers(Requirements(cores=1, memory_mb=256, disk_gb=1))
    fitting = [one for one in answers if isinstance(one, Offer)]
    assert fitting[0].flavour == "small"
    assert (fitting[0].site, fitting[0].cores, fitting[0].memory_mb) == ("here", 1, 512)
    assert fitting[0].image
    for need in (
        Requirements(cores=HUGE.cores + 1),
        Requirements(memory_mb=HUGE.memory_mb + 1),
        Requirements(disk_gb=1 << 30),
    ):
        rejections = provider.offers(need)
        assert {one.flavour for one in rejections} == {"small", "huge"}
        assert all(not isinstance(one, Offer) and one.why for one in rejections)


def test_the_console_tells_of_the_boot(provider: Provider) -> None:
    wanted = request()
    identifier = created(provider, wanted)
    listed(provider, wanted.name, RUNNING)
    eventually(lambda: provider.console(identifier, 200).strip(), "a line on the console")
    assert len(provider.console(identifier, 1).splitlines()) <= 1


def test_an_unreachable_site_is_an_error_and_never_an_empty_list(world: ProviderWorld) -> None:
    identifier = created(world.provider, request())
    world.switch_off()
    for ask in (
        lambda: world.provider.list(None),
        lambda: world.provider.list(DeploymentId("alice")),
        lambda: world.provider.quota(),
        lambda: world.provider.create(request()),
        lambda: world.provider.delete(identifier),
        lambda: world.provider.console(identifier, 10),
        lambda: world.provider.host_keys(identifier),
    ):
        with pytest.raises(Retryable):
            ask()


def test_hosts_outlive_whatever_answers_for_the_site(world: ProviderWorld) -> None:
    wanted = request()
    identifier = created(world.provider, wanted)
    listed(world.provider, wanted.name, RUNNING)
    world.restart()
    assert listed(world.provider, wanted.name, RUNNING).id == identifier


def test_a_create_whose_answer_is_lost_is_unknown_and_the_next_listing_settles_it(
    world: ProviderWorld,
) -> None:
    wanted = request()
    world.lose_next_create_answer()
    with pytest.raises(OutcomeUnknown):
        world.provider.create(wanted)
    assert names(world.provider, "alice") == {wanted.name}
    instance = listed(world.provider, wanted.name, STARTING, RUNNING)
    assert world.provider.create(wanted) == instance.id
    listed(world.provider, wanted.name, RUNNING)


def test_host_keys_are_there_once_the_host_has_booted(provider: Provider) -> None:
    wanted = request()
    identifier = created(provider, wanted)
    listed(provider, wanted.name, RUNNING)
    keys = eventually(lambda: list(provider.host_keys(identifier)), "a host key")
    assert all(len(key.split()) == 2 for key in keys)
