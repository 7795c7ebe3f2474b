"""JSON Schemas that annotations must satisfy as they are posted."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from dvidcore.datatypes.neuronjson.annotation import Annotation
from dvidcore.errors import BadRequest
from dvidcore.geometry import UINT64_MAX

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

_INTEGER = re.compile("[+-]?[0-9]{1,20}")


@lru_cache(maxsize=32)
def compiled(text: bytes) -> Checker:
    """The checker of a schema; BadRequest where it is none, is of an unknown draft, or refers to another document."""
    return Checker(text)


class Checker:
    """Checks annotations against one schema."""

    def __init__(self, text: bytes) -> None:
        import jsonschema_rs

        try:
            schema = orjson.loads(text)
        except orjson.JSONDecodeError as e:
            raise BadRequest(f"the JSON schema is not valid JSON: {e}") from None
        if not isinstance(schema, dict | bool):
            raise BadRequest(f"the JSON schema must be a JSON object, not {type(schema).__name__}")
        try:
            # Patterns take linear time; where one is beyond that (look-around), the engine bounds its steps.
            self._validator: Any = jsonschema_rs.validator_for(schema, offline=True)
        except ValueError as e:
            raise BadRequest(f"the JSON schema is not valid: {_first_line(e)}") from None

    def check(self, annotation: Annotation, body: int) -> Annotation:
        """The annotation, in which texts that must be integers have become these; BadRequest where it is not valid."""
        if self._validator.is_valid(annotation):
            return annotation
        given = annotation
        for error in self._validator.iter_errors(annotation):
            number = _integer(error)
            if number is not None:
                given = {**given, error.instance_path[0]: number}
        if given is not annotation and self._validator.is_valid(given):
            return given
        error = next(self._validator.iter_errors(given))
        path = ".".join(map(str, error.instance_path))
        where = f'field "{path[:100]}": ' if path else ""
        raise BadRequest(f"body {body}: the annotation does not satisfy the JSON schema: {where}{_first_line(error)}")


def _integer(error: ValidationError) -> int | None:
    """The integer that the text of a field stands for, where the error is that it must be one."""
    if len(error.instance_path) != 1 or "integer" not in (getattr(error.kind, "types", None) or ()):
        return None
    text = error.instance
    if not isinstance(text, str) or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(1 << 63) <= number <= UINT64_MAX else None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
