"""Templates of somebody who means harm: small ones that grow, large ones that do not end."""

from __future__ import annotations

import base64
import io
import random
import zipfile
from collections.abc import Callable, Iterator

_HEAD = "tosca_definitions_version: tosca_simple_yaml_1_3\nimports: [vacuo/types.yaml]\n"
_BODY = "topology_template:\n  node_templates:\n"
_ONE = "    host: {type: tosca.nodes.Compute}\n"
_SPOILS = "{}[]&*!|>'\"%@`,:#-?\t\n\x00\ufeff\u2028<~0"


def documents(count: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """``count`` documents, each with the name of its kind; the same for the same ``chance``."""
    for number in range(count):
        kind = _KINDS[number % len(_KINDS)]
        yield kind.__name__.strip("_").replace("_", " "), kind(chance)


def _alias_bomb(chance: random.Random) -> str:
    wide, deep = chance.randint(5, 12), chance.randint(6, 40)
    lines = ["a0: &a0 [" + "x," * wide + "]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * wide)}]" for n in range(1, deep)]
    return "\n".join(lines)


def _merge_bomb(chance: random.Random) -> str:
    wide, deep = chance.randint(5, 12), chance.randint(6, 40)
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * wide)}]" for n in range(1, deep)]
    return "\n".join(lines)


def _deep_nesting(chance: random.Random) -> str:
    return chance.choice("[{-?") * chance.randint(1_000, 200_000)


def _long_list(chance: random.Random) -> str:
    return "[" + ", ".join(["1"] * chance.randint(10_000, 200_000)) + "]"


def _many_keys(chance: random.Random) -> str:
    return "\n".join(f"k{n}: v" for n in range(chance.randint(1_000, 60_000)))


def _one_key_often(chance: random.Random) -> str:
    return "a: 1\n" * chance.randint(1_000, 90_000)


def _one_long_scalar(chance: random.Random) -> str:
    return _HEAD + "description: " + "x" * chance.randint(10_000, 900_000)


def _pattern(chance: random.Random) -> str:
    pattern = chance.choice(["(a+)+$", "(a|a)*$", "(.*a.*)*c", "(a|aa)+b", "([a-z]+)*[0-9]"])
    value = "a" * chance.randint(25, 5_000)
    constraint = f"{{type: string, default: {value}!, constraints: [pattern: '{pattern}']}}"
    return f"{_HEAD}{_BODY}{_ONE}  inputs: {{i: {constraint}}}\n"


def _many_patterns(chance: random.Random) -> str:
    entries = "".join(
        f"    i{n}: {{type: string, default: {'a' * 40}!, constraints: [pattern: '(a+)+$']}}\n"
        for n in range(chance.randint(10, 300))
    )
    return f"{_HEAD}{_BODY}{_ONE}  inputs:\n{entries}"


def _unknown_types(chance: random.Random) -> str:
    count = chance.randint(100, 15_000)
    return (
        _HEAD
        + _BODY
        + "".join(f"    n{n}: {{type: tosca.nodes.Comput{n}}}\n" for n in range(count))
    )


def _unknown_properties(chance: random.Random) -> str:
    properties = "".join(f"        prop_{n}: 1\n" for n in range(chance.randint(100, 30_000)))
    return (
        f"{_HEAD}{_BODY}    host:\n      type: tosca.nodes.Compute\n      properties:\n{properties}"
    )


def _long_alike_names(chance: random.Random) -> str:
    name = chance.choice("ab") * chance.randint(20, 200)
    rows = "".join(
        f"    {name}{n}: {{type: tosca.nodes.Compute, requirements: [dependency: {name}x{n}]}}\n"
        for n in range(chance.randint(100, 1_500))
    )
    return _HEAD + _BODY + rows


def _types_upon_types(chance: random.Random) -> str:
    count = chance.randint(10, 5_000)
    types = "".join(
        f"  t{n}: {{derived_from: {f't{n - 1}' if n else 'tosca.nodes.Root'}}}\n"
        for n in range(count)
    )
    return f"{_HEAD}node_types:\n{types}{_BODY}    a: {{type: t{count - 1}}}\n"


def _circle_of_requirements(chance: random.Random) -> str:
    count = chance.randint(2, 3_000)
    rows = "".join(
        f"    n{n}: {{type: tosca.nodes.Compute, requirements: [dependency: n{(n + 1) % count}]}}\n"
        for n in range(count)
    )
    return _HEAD + _BODY + rows


def _circle_of_functions(chance: random.Random) -> str:
    count = chance.randint(2, 300)
    inputs = "".join(
        f"    i{n}: {{type: string, default: {{get_input: i{(n + 1) % count}}}}}\n"
        for n in range(count)
    )
    return f"{_HEAD}{_BODY}{_ONE}  inputs:\n{inputs}"


def _functions_in_functions(chance: random.Random) -> str:
    deep = chance.randint(5, 100)
    value = "{concat: [" * deep + "x" + "]}" * deep
    return f"{_HEAD}{_BODY}{_ONE}  outputs: {{o: {{value: {value}}}}}\n"


def _value_that_doubles(chance: random.Random) -> str:
    count = chance.randint(10, 60)
    inputs = "    i0: {type: string, default: xxxxxxxx}\n"
    inputs += "".join(
        f"    i{n}: {{type: string, default: {{concat: [{{get_input: i{n - 1}}}, "
        f"{{get_input: i{n - 1}}}]}}}}\n"
        for n in range(1, count)
    )
    output = f"  outputs: {{o: {{value: {{get_input: i{count - 1}}}}}}}\n"
    return f"{_HEAD}{_BODY}{_ONE}  inputs:\n{inputs}{output}"


def _forbidden_imports(chance: random.Random) -> str:
    names = ["file:///etc/passwd", "/etc/shadow", "../../x", "http://169.254.169.254/latest",
             "https://127.0.0.1:8437/info", "https://[::1]/x", "gopher://x", "https://a@b/c",
             "vacuo/../../x", "//x/y", "https://raw.example.org/x.yaml"]  # fmt: skip
    chosen = "".join(f"  - '{chance.choice(names)}'\n" for _ in range(chance.randint(1, 300)))
    return f"tosca_definitions_version: tosca_simple_yaml_1_3\nimports:\n{chosen}{_BODY}{_ONE}"


def _spoilt_text(chance: random.Random) -> str:
    text = list(_HEAD + _BODY + _ONE * 3)
    for _ in range(chance.randint(1, 60)):
        text[chance.randrange(len(text))] = chance.choice(_SPOILS)
    return "".join(text).replace("\x00", "\x01")


def _numbers(chance: random.Random) -> str:
    number = chance.choice(["9" * 5_000, "1e999", "0x" + "f" * 900, "1" + "_1" * 500, "190:20:30"])
    host = f"host: {{properties: {{num_cpus: {number}, mem_size: {number} GB}}}}"
    return f"{_HEAD}{_BODY}    a: {{type: tosca.nodes.Compute, capabilities: {{{host}}}}}\n"


def _archive_bomb(chance: random.Random) -> str:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        if chance.random() < 0.5:
            archive.writestr("site.yaml", b" " * chance.randint(1_000_000, 60_000_000))
        for number in range(chance.randint(1, 700)):
            archive.writestr(f"{chance.choice(['', '../', '/'])}{number}.yaml", _HEAD)
    return base64.b64encode(content.getvalue()).decode()


def _many_hosts(chance: random.Random) -> str:
    rows = "".join(
        f"    n{n}: {{type: tosca.nodes.Compute, capabilities: {{scalable: {{properties: "
        f"{{min_instances: 0, default_instances: 999999999, max_instances: 999999999}}}}}}}}\n"
        for n in range(chance.randint(1, 600))
    )
    return _HEAD + _BODY + rows


_KINDS: tuple[Callable[[random.Random], str], ...] = (
    _alias_bomb, _merge_bomb, _deep_nesting, _long_list, _many_keys, _one_key_often,
    _one_long_scalar, _pattern, _many_patterns, _unknown_types, _unknown_properties,
    _long_alike_names, _types_upon_types, _circle_of_requirements, _circle_of_functions,
    _functions_in_functions, _value_that_doubles, _forbidden_imports, _spoilt_text, _numbers,
    _archive_bomb, _many_hosts,
)  # fmt: skip
