"""Decides whether an API takes a prompt: by the rules in `prompt_rules`, and by the types of its own client."""

from functools import cache

from pyai_sessions.prompts.formats import read_prompt, write_prompt
from pyai_sessions.testing import NOON
from tests.prompts.prompt_rules import check_anthropic, check_bedrock, check_gemini, check_openai, check_responses

FORMATS = ["openai", "responses", "anthropic", "gemini", "bedrock"]
RULES = {
    "openai": check_openai,
    "responses": check_responses,
    "anthropic": check_anthropic,
    "gemini": check_gemini,
    "bedrock": check_bedrock,
}


@cache
def client_type(format_):
    """Return a validator by the client's own types. Importing a client takes a second."""
    from pydantic import TypeAdapter

    if format_ == "openai":
        from openai.types.chat import ChatCompletionMessageParam

        return TypeAdapter(list[ChatCompletionMessageParam])
    if format_ == "responses":
        from openai.types.responses import ResponseInputItemParam

        return TypeAdapter(list[ResponseInputItemParam])
    if format_ == "anthropic":
        from anthropic.types import MessageParam

        return TypeAdapter(list[MessageParam])
    if format_ == "bedrock":
        return _Converse()
    from google.genai.types import Content

    return TypeAdapter(list[Content])


class _Converse:
    """Validates messages as boto3 does before it sends them."""

    def __init__(self):
        from botocore.loaders import Loader
        from botocore.model import ServiceModel

        model = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
        self._shape = model.operation_model("Converse").input_shape

    def validate_python(self, prompt):
        from botocore.validate import validate_parameters

        system = getattr(prompt, "system", None)
        given = {"modelId": "m", "messages": list(prompt), **({} if system is None else {"system": system})}
        validate_parameters(given, self._shape)


def exhausted(value):
    """Return a value with all its lazy parts read, since some types are validated only when they are read."""
    if isinstance(value, dict):
        return {key: exhausted(each) for key, each in value.items()}
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") or hasattr(value, "model_dump"):
        return value
    return [exhausted(each) for each in value]


def judge(prompt, format_):
    """Assert that the API would take the prompt."""
    RULES[format_](prompt)
    exhausted(client_type(format_).validate_python(prompt))


def sent(value):
    """Return JSON as it is sent: U+FFFD replaces each lone surrogate."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in value)
    if isinstance(value, dict):
        return {sent(key): sent(each) for key, each in value.items()}
    return [sent(each) for each in value] if isinstance(value, list) else value


def read(items, format_):
    """Read a prompt with a fixed clock."""
    return read_prompt(items, format_, clock=lambda: NOON)


def round_trip(items, format_):
    """Read a prompt and write it for the same API."""
    return write_prompt(read(items, format_), format_)
