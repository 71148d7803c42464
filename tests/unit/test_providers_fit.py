"""A flavour fits exactly where it has everything that is needed, and says what it lacks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model import Requirements
from orchestrator.providers.fit import exceeds, lacks
from orchestrator.settings import Flavour

sizes = st.tuples(st.integers(1, 4), st.integers(64, 67), st.integers(1, 4))


def flavour(size: tuple[int, int, int]) -> Flavour:
    return Flavour(name="any", cores=size[0], memory_mb=size[1], disk_gb=size[2])


@given(sizes, sizes)
def test_it_fits_where_nothing_is_missing(has, needs) -> None:
    fits = all(h >= n for h, n in zip(has, needs, strict=True))
    assert (lacks(flavour(has), Requirements(*needs)) == "") == fits


@given(sizes, sizes)
def test_it_can_be_cut_from_a_machine_that_is_as_large(has, machine) -> None:
    fits = all(m >= h for h, m in zip(has, machine, strict=True))
    assert (exceeds(flavour(has), *machine) == "") == fits


def test_it_says_what_is_missing() -> None:
    assert lacks(flavour((1, 64, 3)), Requirements(2, 64, 1)) == "has 1 cores, 2 are needed"
