"""What all that goes over the wire has in common.  INDIGO's names outside, ours inside."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

MAXIMUM_PAGE = 1000
MAXIMUM_LINES = 10_000
LARGEST = 2**63 - 1


class Wire(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=False, serialize_by_alias=True, extra="forbid"
    )


class Answer(Wire):
    # Written by us with our names, read by others with INDIGO's.
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)


class Link(Answer):
    rel: str
    href: str


class PageInfo(Answer):
    size: int
    total_elements: int
    total_pages: int
    number: int


class Reason(Answer):
    code: str
    sentence: str
    next_command: str
