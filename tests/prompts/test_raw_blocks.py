"""Blocks of APIs as the content of a message: read as the API's own prompt, and wrapped once."""

import pytest
from hypothesis import given

from pyai_sessions import Session
from tests.prompts.conversations import PROMPTS, SHORT

PLACE = {"source": {"s3Location": {"uri": "s3://b/k"}}}
BLOCKS = {
    "user": [
        {"text": "Hi."},
        {"cachePoint": {"type": "default"}},
        {"guardContent": {"text": {"text": "x"}}},
        {"image": {"format": "png", **PLACE}},
        {"audio": {"format": "wav", **PLACE}},
        {"document": {"format": "pdf", "name": "d", **PLACE}},
        {"video": {"format": "mp4", **PLACE}},
        {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x"}]}},
    ],
    "assistant": [
        {"text": "Hi."},
        {"cachePoint": {"type": "default"}},
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
        {"citationsContent": {"content": [{"text": "x"}], "citations": []}},
    ],
}
EVERY = [(role, block) for role, blocks in BLOCKS.items() for block in blocks]


@pytest.mark.parametrize(("role", "block"), EVERY, ids=[f"{role} {next(iter(block))}" for role, block in EVERY])
def test_a_block_of_bedrocks_is_given_back_however_it_was_added(role, block):
    """A block that Converse takes is the same block again, read as a prompt or added as the content of a message."""
    question, content = {"role": "user", "content": [{"text": "?"}]}, [block, {"text": "More."}]
    read, raw = Session(), Session()
    read.add_messages([question, {"role": role, "content": content}], format="bedrock")
    raw.add_message("user", "?")
    raw.add_message(role, content)

    prompts = [[*each.history(format="bedrock")] for each in (read, raw)]

    assert prompts[0] == prompts[1]
    assert prompts[0][-1]["content"][-2:] == content


@pytest.mark.parametrize("form", [*PROMPTS])
def test_what_was_stored_is_not_wrapped_again(form):
    """The content that a block is stored as, added as the content of another message, is given as that block."""

    @SHORT
    @given(PROMPTS[form])
    def check(prompt):
        stored, again = Session(), Session()
        stored.add_messages(prompt, format=form)
        for each in stored.messages:
            fields = {name: getattr(each, name) for name in ("metadata", "tool_calls", "tool_call_id", "name")}
            again.add_message(each.role, each.content, **fields)

        written = again.history(format=form)
        assert (written, written.system) == (stored.history(format=form), stored.history(format=form).system)

    check()
