"""Checks an OpenAPI document from standard input against the specification, and its examples against its schemas."""

import json
import sys

import jsonschema
import openapi_spec_validator

document = json.load(sys.stdin)
openapi_spec_validator.validate(document)


def follow(value):
    while "$ref" in value and len(value) == 1:
        at = document
        for name in value["$ref"].removeprefix("#/").split("/"):
            at = at[name]
        value = at
    return value


def check(place, media):
    # References in a schema refer to the document, which is the root of all of them.
    root = {**document, "$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [media["schema"]]}
    examples = [one["value"] for one in media.get("examples", {}).values()]
    if "example" in media:
        examples.append(media["example"])
    for example in examples:
        for error in jsonschema.Draft202012Validator(root).iter_errors(example):
            sys.exit(f"{place}: {error.message}")
    return len(examples)


count = 0
for path, operations in document["paths"].items():
    for method, operation in operations.items():
        bodies = operation.get("requestBody", {}).get("content", {})
        for media_type, media in bodies.items():
            count += check(f"{method} {path} takes {media_type}", media)
            if media_type == "application/json" and "example" not in media:
                sys.exit(f"{method} {path} has no example of what it takes")
        for status, response in operation["responses"].items():
            for media_type, media in follow(response).get("content", {}).items():
                count += check(f"{method} {path} {status} {media_type}", media)
print(count)
