"""How property tests run: the same examples every time, or, asked for, many more new ones.

A run that is to tell whether a change is good must not turn red because of an example that nobody
has seen before: that is a find, and finds are made on purpose, with ``make properties``.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

# A deadline for one example would be an asserted timing: on a busy machine it says nothing.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--more-examples",
        type=int,
        metavar="TIMES",
        help="run property tests alone, with TIMES as many examples, new ones each time",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    times = config.getoption("--more-examples")
    if times is None:
        return
    properties = [item for item in items if getattr(_function(item), "is_hypothesis_test", False)]
    config.hook.pytest_deselected(items=[item for item in items if item not in properties])
    items[:] = properties
    for function in {_function(item) for item in properties}:
        usual = function._hypothesis_internal_use_settings
        function._hypothesis_internal_use_settings = settings(
            usual, max_examples=usual.max_examples * times, derandomize=False, print_blob=True
        )
    for item in properties:
        item.add_marker(pytest.mark.timeout(0), append=False)  # before one of its own


def _function(item: pytest.Item) -> Any:
    return getattr(item, "function", None)
