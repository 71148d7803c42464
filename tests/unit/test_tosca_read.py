from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tosca.problems import Report, TemplateInvalid
from orchestrator.tosca.read import ALIASES, DEPTH, NODES, plain, read, resolve


def _read(text: str) -> tuple[object, Report]:
    report = Report("t.yaml")
    tree = read(text, report)
    return (plain(tree) if tree is not None else None), report


def _refused(text: str) -> str:
    with pytest.raises(TemplateInvalid) as caught:
        _read(text)
    return " ".join(problem.sentence for problem in caught.value.problems)


def test_a_merge_key_bomb_is_refused_before_it_is_expanded() -> None:
    bomb = "a0: &a0 {k0: 1}\n"
    for level in range(1, 30):
        merged = ", ".join([f"*a{level - 1}"] * 9)
        bomb += f"a{level}: &a{level}\n  <<: [{merged}]\n  k{level}: 1\n"
    assert str(NODES) in _refused(bomb)


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 20):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n"
    assert str(NODES) in _refused(bomb)


def test_bombs_of_a_few_hundred_bytes_are_refused() -> None:
    merge = "a: &a {k: 1}\n" + "".join(
        f"{at}: &{at}\n  <<: [{','.join([f'*{before}'] * 9)}]\n"
        for before, at in zip("abcdefgh", "bcdefghi", strict=True)
    )
    alias = (
        "a: &a ["
        + "x," * 9
        + "]\n"
        + "".join(
            f"{at}: &{at} [{','.join([f'*{before}'] * 9)}]\n"
            for before, at in zip("abcdefgh", "bcdefghi", strict=True)
        )
    )
    for bomb in (merge, alias):
        assert len(bomb) < 407
        assert str(NODES) in _refused(bomb)


def test_too_many_aliases_are_refused_even_if_each_is_small() -> None:
    assert str(ALIASES) in _refused("a: &a x\nb:\n" + "  - *a\n" * (ALIASES + 1))


def test_nesting_is_bounded_also_through_aliases() -> None:
    assert str(DEPTH) in _refused("[" * (DEPTH + 5) + "]" * (DEPTH + 5))
    deep = "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30
    assert str(DEPTH) in _refused(deep)


def test_an_alias_that_contains_itself_is_refused() -> None:
    assert "contains itself" in _refused("a: &a [*a]")


def test_merged_keys_yield_to_the_mappings_own() -> None:
    value, report = _read("base: &b {x: 1, y: 2}\nall:\n  <<: *b\n  x: 3\n")
    assert not report
    assert value == {"base": {"x": 1, "y": 2}, "all": {"x": 3, "y": 2}}


def test_where_the_last_wins_a_duplicate_key_is_a_note() -> None:
    report = Report("t.yaml")
    tree = read("a: 1\nb: 2\na: 3\n", report, last_wins=True)
    assert tree is not None
    assert plain(tree) == {"a": 3, "b": 2}
    assert not report
    assert [note.as_text() for note in report.notes] == [
        "t.yaml:3:1: The key `a` stands here twice; the first is in line 1. This one counts."
    ]


def test_two_hundred_problems_are_enough() -> None:
    with pytest.raises(TemplateInvalid) as caught:
        _read("a: 1\n" * 5000)
    assert len(caught.value.problems) == 200


def test_a_duplicate_key_names_the_line_of_the_first() -> None:
    _, report = _read("a: 1\nb: 2\na: 3\n")
    (problem,) = report.problems
    assert (problem.line, problem.column) == (3, 1)
    assert "line 1" in problem.sentence


@pytest.mark.parametrize("text", ["!!python/object:os.system {}", "x: !!binary aGk=", "!mine x"])
def test_tags_are_refused(text: str) -> None:
    assert "tag" in _read(text)[1].problems[0].sentence


def test_a_key_that_yaml_reads_as_a_boolean_is_reported_with_what_to_write() -> None:
    _, report = _read("on: 1\n")
    assert report.problems[0].suggestion == 'Write "on", in quotes.'


def test_a_second_document_is_refused() -> None:
    assert "second" in _read("a: 1\n---\nb: 2\n")[1].problems[0].sentence


@pytest.mark.parametrize(
    "text", ["a: [1, 2", "a: b: c", "a:\n\t- b", "\x00", "%YAML 9.9\n--- x", "*x"]
)
def test_what_is_not_yaml_is_refused_with_a_sentence(text: str) -> None:
    assert _refused(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("12", 12),
        ("0x10", 16),
        ("007", "007"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("2020-01-01", "2020-01-01"),
        ("9" * 5000, "9" * 5000),
        ("~", None),
        ("", None),
    ],
)
def test_plain_scalars_mean_what_people_expect(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@given(st.text(max_size=200) | st.text("[]{}:-&*a<! \n\"'|>?,#%1", max_size=60))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    with contextlib.suppress(TemplateInvalid):
        _read(text)
