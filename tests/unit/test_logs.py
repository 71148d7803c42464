"""Log records: whose work they belong to, and what never gets into them."""

from __future__ import annotations

import io
import json
import logging
import threading

import pytest

from orchestrator import logs

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@pytest.fixture
def written():
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield lambda form: (stream := io.StringIO(), logs.configure(form, stream=stream))[0]
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


def test_a_json_record_carries_what_is_bound_around_it(written):
    stream = written("json")
    with logs.bound(correlation="abc"), logs.bound(deployment="d1", node="n1"):
        logging.getLogger("vacuo.test").info("hello %s", "world")
    logging.getLogger("vacuo.test").info("outside")
    inside, outside = map(json.loads, stream.getvalue().splitlines())
    assert inside["message"] == "hello world"
    assert (inside["deployment"], inside["node"], inside["correlation"]) == ("d1", "n1", "abc")
    assert inside["at"].endswith("Z")
    assert inside["level"] == "info"
    assert "deployment" not in outside


def test_a_text_record_names_its_fields(written):
    stream = written("text")
    with logs.bound(node="n1"):
        logging.getLogger("vacuo.test").warning("slow")
    assert "WARNING vacuo.test [node=n1] slow" in stream.getvalue()


def test_a_traceback_is_kept_in_one_json_line_and_filtered(written):
    stream = written("json")
    try:
        raise ValueError(f"bad token {TOKEN}")
    except ValueError:
        logging.getLogger("vacuo.test").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError" in json.loads(line)["exception"]
    assert TOKEN not in line


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        f"IDTOKEN {TOKEN} was minted",
        f"url=https://x/?access_token={TOKEN}",
        "Authorization: Bearer c2VjcmV0LXNlY3JldA==",
        "password=c2VjcmV0LXNlY3JldA==",
        '{"refresh_token": "c2VjcmV0LXNlY3JldA=="}',
        "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n"
        "-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==",
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_credential_never_reaches_the_log(written, form, text):
    stream = written(form)
    logging.getLogger("vacuo.test").info("got %s", text)
    assert TOKEN.split(".")[2] not in stream.getvalue()
    assert "c2VjcmV0LXNlY3JldA" not in stream.getvalue()


def test_what_only_looks_a_little_like_a_secret_is_left_alone():
    sentence = "The token of node n1 ends in 9 min; the password file is 0600."
    assert logs.redact(sentence) == sentence


def test_a_thread_starts_with_nothing_bound_and_may_be_given_the_context():
    seen = []

    def work(fields):
        seen.append(dict(logs.context()))
        with logs.bound(**fields):
            seen.append(dict(logs.context()))

    with logs.bound(deployment="d1"):
        thread = threading.Thread(target=work, args=(dict(logs.context()),))
        thread.start()
        thread.join()
    assert seen == [{}, {"deployment": "d1"}]


def test_what_one_call_says_counts_more_than_what_is_bound(written):
    stream = written("json")
    with logs.bound(deployment="d1"):
        logging.getLogger("vacuo.test").info("hello", extra={"deployment": "d2"})
    assert json.loads(stream.getvalue())["deployment"] == "d2"


def test_an_unknown_field_is_a_programming_error():
    with pytest.raises(TypeError, match="colour"), logs.bound(colour="red"):
        pass
