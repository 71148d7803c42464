"""``vacuo.yaml`` and ``VACUO_*``: what is taken, and how mistakes are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import settings
from orchestrator.errors import UserError
from orchestrator.settings import Pool, Settings

SECRET = "hunter2-hunter2"
SITE = """\
sites:
  - name: here
    provider: simulated
    flavours:
      - {name: small, cores: 1, memory_mb: 1024, disk_gb: 10}
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "vacuo.yaml"
        path.write_text(text)
        return path

    return written


def refused(path: Path | None, environment: dict[str, str] | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        settings.load(path, environment or {})
    assert caught.value.code == "configuration-invalid"
    assert caught.value.attempt
    return caught.value


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_a_file_without_settings_means_the_defaults(write: Write, text: str) -> None:
    assert settings.load(write(text), {}) == Settings()


MISTAKES = {
    "wrong type": (
        SITE + "limits:\n  boot_seconds: soon\n",
        "7: limits.boot_seconds: Input should be a valid number",
    ),
    "out of range": (
        SITE + "    limits: {cores: -1}\n",
        "6: sites.0.limits.cores: Input should be greater than or equal to 0",
    ),
    "unknown setting": ("lisen: 127.0.0.1:1\n", "1: lisen: there is no such setting. Did you mean"),
    "unknown setting deep inside": (
        SITE.replace("memory_mb", "memory"),
        "5: sites.0.flavours.0.memory: there is no such setting. Did you mean memory_mb?",
    ),
    "missing": ("sites:\n  - name: here\n", "2: sites.0.provider: is missing."),
    "wrong word": (
        SITE.replace("simulated", "amazon"),
        "3: sites.0.provider: Input should be 'local' or 'simulated'",
    ),
    "bad name": (SITE.replace("here", "a b"), "2: sites.0.name: String should match"),
    "one value where there are many": ("pools: main\n", "1: pools: Input should be a valid tuple"),
    "name used twice": (
        SITE + SITE.replace("sites:\n", ""),
        "6: sites.1.name: another of the sites has this name already.",
    ),
    "setting written twice": (
        "listen: 127.0.0.1:1\nlog_format: json\nlisten: 127.0.0.1:2\n",
        "3: listen: is there already, in line 1.",
    ),
    "setting written twice deep inside": (
        SITE + "    provider: local\n",
        "6: sites.0.provider: is there already, in line 3.",
    ),
    "not a mapping": ("- a\n- b\n", "1: it is not a mapping"),
    "a word": ("vacuo\n", "1: it is not a mapping"),
    "not YAML": (
        "listen: [1,\npools: {}\n",
        "3:1: it is not YAML: expected ',' or ']', but got '<stream end>'.",
    ),
    "a tag that Python would obey": (
        "data_directory: !!python/object/apply:os.system [ls]\n",
        "1:17: it is not YAML",
    ),
    "an address without a port": ("listen: localhost\n", "1: listen: must be HOST:PORT"),
    "a port that there is not": ("listen: 127.0.0.1:84200\n", "1: listen: must be HOST:PORT"),
    "a public address without https": ("public_url: vacuo.org\n", "1: public_url: must be an addr"),
    "a network that is none": (
        SITE + "    subnet: 10.93.0.7/24\n",
        "6: sites.0.subnet: must be an IPv4 network",
    ),
    "a pool without a collector": (
        "pools:\n  - name: main\n",
        "2: pools.0: a pool of HTCondor needs its collector",
    ),
    "an option that the pool does not have": (
        "pools:\n  - name: main\n    collector: a:1\n    options:\n      token: 1\n",
        "5: pools.0.options.token: there is no such option; there is: join_token_file",
    ),
    "an issuer whose tokens may be for anybody": (
        "issuers:\n  - {name: a, issuer: 'https://a/', audiences: []}\n",
        "2: issuers.0.audiences: Tuple should have at least 1 item",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_by_file_line_and_field(write: Write, mistake: str) -> None:
    text, told = MISTAKES[mistake]
    path = write(text)
    error = refused(path)
    assert f"{path}:{told}" in error.why
    assert all(line.startswith(f"{path}:") for line in error.why.splitlines())


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    text = "log_format: xml\nlimits:\n  boot_seconds: 0\n  colour: red\n"
    assert len(refused(write(text)).why.splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"listen: \xff\xfe\n", "UTF-8"),
        (b"listen: \x07\n", "not YAML"),
        (b"listen: 2026-13-45\n", "not YAML"),
        (b"a: &a [*a]\n", "nested too deeply"),
        (b"{" * 5000, "nested too deeply"),
        (b"? [a]\n: 1\n", "not YAML"),
    ],
)
def test_a_file_of_garbage_is_told_in_a_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "vacuo.yaml"
    path.write_bytes(content)
    assert told in refused(path).why


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert "No such file or directory" in refused(tmp_path / "absent.yaml").why
    assert "Is a directory" in refused(tmp_path).why


@pytest.mark.parametrize(
    "text",
    [
        f"database: [{SECRET}]\n",
        f"password: {SECRET}\n",
        f"database: 'postgresql://vacuo:{SECRET}@db/vacuo\n",
        f"database: *{SECRET}\n",
        f"database: !{SECRET} x\n",
        f"database: &{SECRET} x\nlisten: &{SECRET} y\n",
        f"pools:\n  - name: a\n    collector: a:1\n    token_file: {{{SECRET}: 1}}\n",
        f"issuers: {SECRET}\n",
        f"listen: {SECRET}\n",
    ],
)
def test_no_error_shows_a_value(write: Write, text: str) -> None:
    error = refused(write(text))
    shown = str(error).replace(f"token_file.{SECRET}", "")  # a name of a setting is no value
    assert SECRET not in shown


# --- the environment ----------------------------------------------------------------------------


def test_every_single_value_can_be_overridden_by_the_environment(write: Write) -> None:
    given: dict[str, Any] = {
        "data_directory": "/somewhere/else",
        "listen": "[::1]:1",
        "public_url": "https://vacuo.example.org/",
        "database": "postgresql://a: [b]@c/d",
        "log_format": "json",
        "sandbox": "required",
        "development_issuer": "true",
        "access_file": "/etc/vacuo/access.yaml",
    }
    assert set(given) == set(settings.scalars())
    environment = {f"VACUO_{name.upper()}": value for name, value in given.items()}
    found = settings.load(write("listen: 127.0.0.1:9\n" + SITE), environment)
    expected = {**given, "development_issuer": True, "data_directory": Path("/somewhere/else")}
    expected["public_url"] = "https://vacuo.example.org"
    expected["access_file"] = Path("/etc/vacuo/access.yaml")
    assert {name: getattr(found, name) for name in given} == expected
    assert found.sites[0].name == "here"


def test_an_empty_variable_counts_as_none() -> None:
    assert settings.load(None, {"VACUO_PUBLIC_URL": "", "VACUO_LISTEN": ""}) == Settings()


def test_sections_are_not_read_from_the_environment() -> None:
    assert settings.load(None, {"VACUO_SITES": "nonsense", "VACUO_SERVER": "x"}) == Settings()


def test_a_mistake_in_the_environment_names_the_variable(write: Write) -> None:
    error = refused(write("log_format: json\n"), {"VACUO_LOG_FORMAT": SECRET})
    assert error.why.startswith("VACUO_LOG_FORMAT in the environment: log_format: Input should be")
    assert SECRET not in str(error)


# --- what the settings refer to -----------------------------------------------------------------


def pool(**fields: Any) -> Settings:
    return Settings(pools=(Pool(name="main", collector="pool.example.org:9618", **fields),))


def trouble(configured: Settings) -> str:
    with pytest.raises(UserError) as caught:
        settings.check_files(configured)
    assert caught.value.code == "configuration-invalid"
    return caught.value.why


def test_a_token_that_is_there_and_closed_to_others_is_taken(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET)
    token.chmod(0o600)
    settings.check_files(pool(token_file=token, signing_key_directory=tmp_path))
    settings.check_files(pool(options={"join_token_file": str(token)}))
    settings.check_files(pool())


def test_a_token_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "token"
    missing = f"{path}: No such file or directory."
    assert trouble(pool(token_file=path)) == f"pools.main.token_file: {missing}"
    joining = pool(options={"join_token_file": str(path)})
    assert trouble(joining) == f"pools.main.options.join_token_file: {missing}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(SECRET)
    path.chmod(mode)
    why = trouble(pool(token_file=path))
    assert f"(mode {mode:04o}). Try: chmod 600 {path}" in why
    assert SECRET not in why


def test_a_token_file_without_a_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    assert trouble(pool(token_file=path)).endswith("it is empty.")
    assert trouble(pool(token_file=tmp_path)).endswith("Is a directory.")


def test_a_directory_of_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    why = trouble(pool(signing_key_directory=path, token_file=path))
    assert f"pools.main.signing_key_directory: {path}: there is no such directory." in why
    assert len(why.splitlines()) == 2


def test_the_settings_that_are_shown_can_be_read_again(write: Write) -> None:
    first = settings.load(write(SITE), {"VACUO_LOG_FORMAT": "json"})
    again = write(yaml.safe_dump(first.model_dump(mode="json")))
    assert settings.load(again, {}) == first
