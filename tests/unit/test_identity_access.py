"""The access file: what it may say, and how mistakes in it are told; and the brake on requests."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.identity.access import Each, Role, Rules, load
from orchestrator.identity.rate import Pace, TooManyRequests
from orchestrator.model import Principal
from orchestrator.settings import Issuer

ROOT = Path(__file__).parents[2]
ISSUERS = tuple(
    Issuer(name=name, issuer=f"https://{name}.example/", audiences=("vacuo",))
    for name in ("cms", "atlas")
)


def read(tmp_path: Path, text: str) -> Rules:
    path = tmp_path / "access.yaml"
    path.write_text(text)
    return load(path, ISSUERS)


@pytest.mark.parametrize("path", sorted((ROOT / "iam/access").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_examples_are_valid(path: Path) -> None:
    found = load(path, ISSUERS)
    assert any(rule.role is Role.USER for rule in found.rules)
    assert {rule.issuer for rule in found.rules} <= {one.issuer for one in ISSUERS}


def test_without_a_file_everybody_is_a_user_without_limits() -> None:
    found = load(None, ISSUERS)
    assert [(rule.role, rule.issuer, rule.anybody, rule.each) for rule in found.rules] == [
        (Role.USER, one.issuer, True, None) for one in ISSUERS
    ]


def test_a_rule_is_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "rules:\n  - {role: user, issuer: cms, groups: [/cms], each: {requests_per_minute: 6}}\n",
    )
    (rule,) = found.rules
    assert rule.issuer == "https://cms.example/"
    assert rule.each == Each(requests_per_minute=6)


RULE = "rules:\n  - role: user\n    issuer: cms\n"
MISTAKES = {
    "no rules at all": ("# nothing\n", ": rules: is missing."),
    "an empty list is nobody, and said so by its rules": (
        "rule: []\n",
        ":1: rule: there is no such",
    ),
    "a role that there is not": (
        RULE.replace("user", "root") + "    anybody: true\n",
        ":2: rules.0.role: Input should be 'administrator', 'operator', 'auditor' or 'user'",
    ),
    "an issuer that is not named": (
        "rules:\n  - role: user\n    anybody: true\n",
        ":2: rules.0.issuer: is missing.",
    ),
    "an issuer that there is not": (
        RULE.replace("cms", "lhcb") + "    anybody: true\n",
        ":3: rules.0.issuer: no issuer of the settings has this name; there is: cms, atlas.",
    ),
    "an issuer that is written wrongly": (
        RULE.replace("cms", "atlass") + "    anybody: true\n",
        ":3: rules.0.issuer: no issuer of the settings has this name. Did you mean atlas?",
    ),
    "a rule for nobody": (RULE, ":2: rules.0: names nobody: it needs groups, subjects, or anybody"),
    "anybody and somebody": (
        RULE + "    anybody: true\n    groups: [/cms]\n",
        ":4: rules.0.anybody: stands alone",
    ),
    "a field that there is not": (
        RULE + "    group: [/cms]\n",
        ":4: rules.0.group: there is no such setting. Did you mean groups?",
    ),
    "a limit that there is not": (
        RULE + "    anybody: true\n    each:\n      node: 5\n",
        ":6: rules.0.each.node: there is no such setting. Did you mean nodes?",
    ),
    "a limit that is a word": (
        RULE + "    anybody: true\n    each: {nodes: many}\n",
        ":5: rules.0.each.nodes: Input should be a valid integer",
    ),
    "a negative limit": (
        RULE + "    anybody: true\n    each: {nodes: -1}\n",
        ":5: rules.0.each.nodes: Input should be greater than or equal to 0",
    ),
    "no request at all": (
        RULE + "    anybody: true\n    each: {requests_per_minute: 0}\n",
        ":5: rules.0.each.requests_per_minute: Input should be greater than or equal to 1",
    ),
    "a group without a slash": (
        RULE + "    groups:\n      - /cms\n      - cms/uscms\n",
        ":6: rules.0.groups.1: must be a path of groups, such as /cms/uscms.",
    ),
    "a group that goes up": (
        RULE + "    groups: [/cms/..]\n",
        ":4: rules.0.groups.0: must be a path of groups",
    ),
    "a subject that YAML takes for a number": (
        RULE + "    subjects: [1234]\n",
        ":4: rules.0.subjects.0: Input should be a valid string",
    ),
    "limits for an administrator": (
        RULE.replace("user", "administrator") + "    anybody: true\n    each: {nodes: 1}\n",
        ":5: rules.0.each: limits are for the role user",
    ),
    "limits of no group": (
        RULE + "    anybody: true\n    together: {nodes: 1}\n",
        ":5: rules.0.together: is for the groups of the rule, and it names none",
    ),
    "requests of a group": (
        RULE + "    groups: [/cms]\n    together: {requests_per_minute: 1}\n",
        ":5: rules.0.together.requests_per_minute: there is no such setting",
    ),
    "a rule written twice": (
        RULE + "    anybody: true\n    issuer: atlas\n",
        ":5: rules.0.issuer: is there already, in line 3.",
    ),
    "no YAML": ("rules: [\n", ":2:1: it is not YAML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_access_file_is_told_by_file_line_and_field(
    tmp_path: Path, mistake: str
) -> None:
    text, told = MISTAKES[mistake]
    with pytest.raises(UserError) as refused:
        read(tmp_path, text)
    assert f"{tmp_path / 'access.yaml'}{told}" in refused.value.why
    assert "access.yaml" in refused.value.what
    assert refused.value.code == "configuration-invalid"
    assert "identity.md" in refused.value.attempt


def test_a_file_that_is_not_there_stops_the_server(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path / "absent.yaml", ISSUERS)


def test_a_file_that_anybody_may_write_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(RULE + "    anybody: true\n")
    path.chmod(0o666)
    with pytest.raises(UserError, match="can write it"):
        load(path, ISSUERS)


# --- the brake -----------------------------------------------------------------------------------

ALICE, BOB = Principal("a", "alice"), Principal("a", "bob")


def test_a_minutes_worth_may_come_at_once_and_then_one_by_one() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for _ in range(6):
        pace.take(ALICE, 6)
    with pytest.raises(TooManyRequests) as refused:
        pace.take(ALICE, 6)
    assert refused.value.after == pytest.approx(10.0)
    assert refused.value.status == 429
    pace.take(BOB, 6)
    now[0] = 10.0
    pace.take(ALICE, 6)
    with pytest.raises(TooManyRequests):
        pace.take(ALICE, 6)


def test_who_waits_a_day_has_no_more_than_a_minutes_worth() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.take(ALICE, 2)
    now[0] = 86400.0
    pace.take(ALICE, 2)
    pace.take(ALICE, 2)
    with pytest.raises(TooManyRequests):
        pace.take(ALICE, 2)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    pace.take(ALICE, 2)
    now[0] = 0.0
    pace.take(ALICE, 2)
    with pytest.raises(TooManyRequests):
        pace.take(ALICE, 2)


def test_the_number_of_people_remembered_is_bounded() -> None:
    pace = Pace(lambda: 0.0, maximum=10)
    for number in range(1000):
        pace.take(Principal("a", str(number)), 1)
    assert len(pace) == 10
    pace.take(ALICE, None)
    assert len(pace) == 10


def test_threads_share_one_bucket() -> None:
    pace = Pace(lambda: 0.0)
    taken: list[bool] = []

    def ask() -> None:
        for _ in range(50):
            try:
                pace.take(ALICE, 100)
                taken.append(True)
            except TooManyRequests:
                taken.append(False)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(taken) == 100
    assert len(taken) == 200
