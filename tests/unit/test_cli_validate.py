"""``validate`` needs no server, shows the place of every problem, and tells by its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli import exitcodes
from orchestrator.cli.main import app
from orchestrator.cli.templates import shipped

BROKEN = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  node_templates:
    host:
      type: tosca.nodes.Compute
      capabilities:
        host: {properties: {num_cpu: 2}}
"""


def validate(*words: str) -> Result:
    # Nothing listens there: a request would be an error.
    return CliRunner(env={"VACUO_SERVER": "http://127.0.0.1:9"}).invoke(app, ["validate", *words])


def test_every_shipped_template_is_valid() -> None:
    result = validate(*shipped())
    assert result.exit_code == exitcodes.OK, result.output
    assert result.stdout.count("✓") == len(shipped())


def test_a_broken_template_is_shown_with_place_caret_and_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    result = validate(str(path))
    assert result.exit_code == exitcodes.ERROR
    place, line, caret = result.stdout.splitlines()[1:4]
    assert place.startswith(f"{path}:7:29: ")
    assert "Did you mean `num_cpus`?" in place
    assert line[caret.index("^") :].startswith("num_cpu")


def test_one_broken_template_of_several_is_enough_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    result = validate("squid", str(path), "-o", "json")
    assert result.exit_code == exitcodes.ERROR
    good, bad = json.loads(result.stdout)["validation"]
    assert good["valid"]
    assert not bad["valid"]
    assert (bad["errors"][0]["line"], bad["errors"][0]["column"]) == (7, 29)


@pytest.mark.parametrize("content", ["", "- a list", "a: [", "\x00", "a: &a [*a]"])
def test_what_is_no_template_is_told_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(content)
    result = validate(str(path))
    assert result.exit_code == exitcodes.ERROR
    assert "✗" in result.stdout
    assert "Traceback" not in result.output


def test_a_file_that_does_not_exist_names_one_that_does() -> None:
    result = validate("squidd")
    assert result.exit_code == exitcodes.ERROR
    assert "Did you mean squid?" in result.stdout


def test_sarif_holds_every_problem_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "broken file.yaml"
    path.write_text(BROKEN)
    result = validate("squid", str(path), "-o", "sarif")
    assert result.exit_code == exitcodes.ERROR
    document = json.loads(result.stdout)
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    (found,) = run["results"]
    assert found["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert "num_cpus" in found["message"]["text"]
    place = found["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == path.as_uri()
    assert place["region"] == {"startLine": 7, "startColumn": 29}


ASKS = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    cores: {type: integer, constraints: [in_range: [1, 8]]}
  node_templates:
    host:
      type: tosca.nodes.Compute
      capabilities:
        host: {properties: {num_cpus: {get_input: cores}}}
"""


@pytest.fixture
def asking(tmp_path: Path) -> str:
    """A template with an input that needs a value."""
    path = tmp_path / "asking.yaml"
    path.write_text(ASKS)
    return str(path)


def test_without_parameters_a_value_that_lacks_is_noted(asking: str) -> None:
    result = validate(asking)
    assert result.exit_code == exitcodes.OK, result.output
    assert f"note: {asking}:4:5: The input `cores` has no value yet" in result.stdout


def test_with_a_parameter_a_value_that_lacks_is_a_problem(asking: str, tmp_path: Path) -> None:
    given = tmp_path / "none.yaml"
    given.write_text("")
    result = validate(asking, "--parameters", str(given))
    assert result.exit_code == exitcodes.ERROR
    assert "The input `cores` needs a value." in result.stdout
    assert validate(asking, "-p", "cores=4").exit_code == exitcodes.OK
    assert "it must be in the range 1 to 8" in validate(asking, "-p", "cores=9").stdout


def test_without_parameters_all_other_mistakes_are_found(asking: str) -> None:
    Path(asking).write_text(ASKS.replace("num_cpus", "num_cpu"))
    result = validate(asking)
    assert result.exit_code == exitcodes.ERROR
    assert "Did you mean `num_cpus`?" in result.stdout
    assert "has no value yet" not in result.stdout


def test_reports_have_the_notes_and_tell_them_from_problems(asking: str) -> None:
    sarif, github = validate(asking, "-o", "sarif"), validate(asking, "-o", "github")
    assert sarif.exit_code == github.exit_code == exitcodes.OK
    (run,) = json.loads(sarif.stdout)["runs"]
    (found,) = run["results"]
    assert (found["level"], found["ruleId"]) == ("note", "template-note")
    assert found["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    place = found["locations"][0]["physicalLocation"]["region"]
    assert place == {"startLine": 4, "startColumn": 5}
    (line,) = github.stdout.splitlines()
    assert line.startswith("::notice file=")
    assert ",line=4,col=5::The input `cores` has no value yet" in line


def test_sarif_of_valid_templates_is_a_run_without_results() -> None:
    result = validate("squid", "-o", "sarif")
    assert result.exit_code == exitcodes.OK
    assert json.loads(result.stdout)["runs"][0]["results"] == []


def test_github_gets_one_escaped_command_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "50%, or: so.yaml"
    path.write_text(BROKEN)
    result = validate(str(path), "--output=github")
    assert result.exit_code == exitcodes.ERROR
    (line,) = result.stdout.splitlines()
    assert line.startswith("::error file=")
    assert "50%25%2C or%3A so.yaml" in line
    assert ",line=7,col=29::" in line


def test_only_validate_has_the_forms_for_code_hosts() -> None:
    result = CliRunner().invoke(app, ["templates", "-o", "sarif"])
    assert result.exit_code == exitcodes.USAGE
    assert "Only validate can print sarif." in result.stderr


def test_what_a_sound_template_asks_and_nobody_follows_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    path.write_text(
        BROKEN.replace("host: {properties: {num_cpu: 2}}", "os: {properties: {version: 7}}")
    )
    text, data = validate(str(path)), validate(str(path), "-o", "json")
    assert text.exit_code == exitcodes.OK, text.output
    assert "note: " in text.stdout
    assert "version" in text.stdout
    (told,) = json.loads(data.stdout)["validation"]
    assert len(told["notes"]) == 1
