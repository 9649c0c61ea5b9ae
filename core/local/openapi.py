"""An OpenAPI file as JSON Schemas that forbid what it does not describe.

OpenAPI has words of its own for what may be null and for which of several objects a value is, and says
nothing about properties that it does not name. Needs jsonschema-rs and PyYAML (the extra `dev`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from core.local.http_server import Request, Response
from core.local.multipart import form_fields

_SCHEMAS: Final = "#/components/schemas/"
_ANY: Final = "__any"
_NOT_JSON_SCHEMA: Final = frozenset({"nullable", "discriminator", "example"})
_REFUSED: Final = frozenset({400, 401, 403, 404, 422})
"""Answers to requests that are not as they must be."""

Schema = Mapping[str, Any]


class Spec:
    """`base`: the path before its paths. `more`: further values of a discriminator, by schema."""

    def __init__(self, path: Path, *, base: str = "", more: Mapping[str, Mapping[str, str]] | None = None):
        self.document = _read(path)
        self._base = base
        schemas: dict[str, Any] = self.document["components"]["schemas"]
        for name, values in (more or {}).items():
            schemas[name]["discriminator"]["mapping"].update({v: _SCHEMAS + s for v, s in values.items()})
        self._chosen_from = {name for name, schema in schemas.items() if _is_chosen_from(schema)}
        self._objects = {name for name, schema in schemas.items() if _is_object(schema)}
        self._schemas = {name: self._converted(schema) for name, schema in schemas.items()}
        for name in self._chosen_from:
            self._schemas[name + _ANY] = _chosen(name, schemas[name]["discriminator"])
        self._paths = {
            re.compile(re.sub(r"{[^}]+}", "[^/]+", path)): operations
            for path, operations in self.document["paths"].items()
        }
        self._validators: dict[str, Any] = {}

    def values(self, schema: str) -> set[str]:
        """What a schema's discriminator tells apart."""
        return set(self.document["components"]["schemas"][schema]["discriminator"]["mapping"])

    def operation(self, method: str, path: str) -> Schema | None:
        path = path.removeprefix(self._base)
        for pattern, operations in self._paths.items():
            if pattern.fullmatch(path) and method.lower() in operations:
                found: Schema = operations[method.lower()]
                return found
        return None

    def exchange(self, operation: Schema, request: Request, response: Response | None) -> list[str]:
        """What is wrong with a request that was taken, and with the answer to any."""
        found: list[str] = []
        if response is None or response.status not in _REFUSED:
            content = operation.get("requestBody", {}).get("content", {})
            wrong = self._in_body(content, request.body, request.headers)
            found += [f"request: {problem}" for problem in wrong]
        if response is not None and response.described and response.cut_at is None:
            wrong = self._in_answer(operation, response)
            found += [f"answer {response.status}: {problem}" for problem in wrong]
        return found

    def problems(self, schema: str, value: Any) -> list[str]:
        """What is wrong with a value of a named schema."""
        return self._wrong({"$ref": _SCHEMAS + schema}, value)

    def _in_answer(self, operation: Schema, response: Response) -> list[str]:
        """An error that the operation does not name has the API's one form of an error."""
        answer = operation["responses"].get(str(response.status))
        if answer is None:
            if response.status < 400:
                return ["this status is not described"]
            answer = {"content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}ErrorResponse"}}}}
        elif "$ref" in answer:
            answer = self.document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        return self._in_body(answer.get("content", {}), response.body, response.headers)

    def _in_body(self, content: Schema, body: bytes, headers: Mapping[str, str]) -> list[str]:
        """`content`: schemas by media type; without any, the body does not matter."""
        if not content or "*/*" in content:
            return []
        media = headers.get("content-type", "").partition(";")[0].strip()
        if media not in content:
            return [f"is {media or 'without a media type'} instead of {', '.join(content)}"]
        try:
            value = _read_body(media, body, headers)
        except ValueError:
            return ["is not JSON"]
        return [] if value is None else self._wrong(content[media]["schema"], value)

    def _wrong(self, schema: Schema, value: Any) -> list[str]:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            from jsonschema_rs import Draft202012Validator  # noqa: PLC0415  only where a file is checked

            root = {**self._converted(schema, stands=True), "components": {"schemas": self._schemas}}
            self._validators[key] = Draft202012Validator(root)
        errors = self._validators[key].iter_errors(value)
        return [f"{'.'.join(map(str, e.instance_path)) or 'it'}: {e.message[:300]}" for e in errors]

    def _converted(self, schema: Any, *, stands: bool = False) -> Any:
        """`stands`: a value of the schema stands there, so that it has no more than the schema describes;
        otherwise the schema is a part of another one."""
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]), stands=stands)
        made = {key: value for key, value in schema.items() if key not in _NOT_JSON_SCHEMA}
        for key in {"properties", "patternProperties"} & made.keys():
            made[key] = {name: self._converted(each, stands=True) for name, each in made[key].items()}
        for key in {"items", "additionalProperties"} & made.keys():
            made[key] = self._converted(made[key], stands=True)
        for key in {"allOf", "oneOf", "anyOf"} & made.keys():
            made[key] = [self._converted(each, stands=key != "allOf") for each in made[key]]
        if stands and _is_object(made):
            made["unevaluatedProperties"] = False
        return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made

    def _reference(self, target: str, *, stands: bool) -> dict[str, Any]:
        name = target.removeprefix(_SCHEMAS)
        if not stands or name not in self._objects:
            return {"$ref": target}
        return {
            "$ref": target + _ANY if name in self._chosen_from else target,
            "unevaluatedProperties": False,
        }


def _read_body(media: str, body: bytes, headers: Mapping[str, str]) -> Any:
    """As what the schema describes; None of a media type without any. Raises ValueError."""
    if media == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode("utf-8", "replace")))
    if media == "multipart/form-data":
        fields = form_fields(body, headers["content-type"])
        return {name: field.value.decode("latin-1") for name, field in fields.items()}
    return json.loads(body) if media == "application/json" else None


def _read(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415  only where a file is checked

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = path.read_text("utf-8")
    document: dict[str, Any] = json.loads(text) if path.suffix == ".json" else loader(text).get_single_data()
    return document


def _is_object(schema: Schema) -> bool:
    """It says which properties there are, itself or by what it consists of."""
    return schema.get("type") == "object" or "properties" in schema or "allOf" in schema


def _is_chosen_from(schema: Schema) -> bool:
    """Other schemas are made of it, and a property says which of them a value has."""
    return "discriminator" in schema and not {"oneOf", "anyOf"} & schema.keys()


def _chosen(name: str, discriminator: Mapping[str, Any]) -> dict[str, Any]:
    key, mapping = discriminator["propertyName"], discriminator["mapping"]
    known = {"properties": {key: {"enum": list(mapping)}}, "required": [key]}
    cases = [
        {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": {"$ref": target}}
        for value, target in mapping.items()
    ]
    return {"allOf": [{"$ref": _SCHEMAS + name}, known, *cases]}
