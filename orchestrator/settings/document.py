"""From the file and the environment to :class:`Settings`."""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator import yaml_file
from orchestrator.errors import UserError
from orchestrator.settings.sections import Settings
from orchestrator.yaml_file import Place, dotted

Model = TypeVar("Model", bound=BaseModel)

SEARCH_PATH = (Path("vacuo.yaml"), Path("/etc/vacuo/vacuo.yaml"))


def find(explicit: str | None = None) -> Path | None:
    """The configuration file: as given, else ``VACUO_CONFIG``, else the first that exists."""
    named = explicit or os.environ.get("VACUO_CONFIG")
    if named:
        return Path(named)
    return next((path for path in SEARCH_PATH if path.is_file()), None)


def scalars() -> Sequence[str]:
    """The settings that ``VACUO_<NAME>`` overrides: what at the top level is one value."""
    composed = {name for name, field in Settings.model_fields.items() if sections(field.annotation)}
    return [name for name in Settings.model_fields if name not in composed]


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check ``path`` (None: defaults), then apply ``VACUO_*`` from the environment.

    A variable that is set and empty counts as not set.  Raises :class:`UserError` with file, line
    and field for everything that is wrong.
    """
    environment = os.environ if environment is None else environment
    document, places = yaml_file.read(path) if path else ({}, {})
    for name in scalars():
        variable = f"VACUO_{name.upper()}"
        if environment.get(variable):
            document[name] = environment[variable]
            places[(name,)] = f"{variable} in the environment"
    place = str(path or "in the environment")
    return checked(Settings, document, places, f"The configuration {place}", place)


def checked(
    model: type[Model], document: Mapping[str, Any], places: Mapping[Place, str], what: str, at: str
) -> Model:
    """``document`` as ``model``, or :class:`UserError` that names each mistake by its place.

    ``what`` is what cannot be used then, ``at`` the place of what is nowhere in the document.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        raise UserError(
            f"{what} cannot be used.",
            "\n".join(_sentence(model, places, at, problem) for problem in problems),
            "see docs/admin/configuration.md, or run: vacuo server config --defaults",
            code="configuration-invalid",
        ) from None


# --- what is wrong -------------------------------------------------------------------------------


def _sentence(
    model: type[BaseModel], places: Mapping[Place, str], otherwise: str, problem: ErrorDetails
) -> str:
    where = (*problem["loc"], *problem.get("ctx", {}).get("at", ()))
    nearest = (where[:n] for n in range(len(where), 0, -1))
    at = next((places[place] for place in nearest if place in places), otherwise)
    wrong = _what_is_wrong(model, problem)
    return f"{at}: {dotted(where)}: {wrong}" + ("" if wrong.endswith("?") else ".")


def _what_is_wrong(model: type[BaseModel], problem: ErrorDetails) -> str:
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] != "extra_forbidden":
        return problem["msg"].rstrip(".")
    *parents, name = problem["loc"]
    close = difflib.get_close_matches(str(name), _fields_at(model, parents), n=1, cutoff=0.6)
    return "there is no such setting" + (f". Did you mean {close[0]}?" if close else "")


def _fields_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    for part in place:
        if isinstance(part, str):
            model = sections(model.model_fields[part].annotation)[0]
    return list(model.model_fields)


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field of this type is made of; none where it is a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in sections(inner)]
