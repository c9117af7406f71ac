"""Tests of redacting documents: which text is taken out, and what stays."""

import pytest

from pyai_sessions.documents.blanking import Blanker

SECRET = "the password is hunter2"


def message(content, message_id="pw", **more):
    return {"role": "user", "timestamp": 1, "message_id": message_id, "content": content, "metadata": {}, **more}


def blanker(*contents, words=(), removed="[removed]"):
    """Return a blanker that knows a message with these contents."""
    made = Blanker("pw", removed, words)
    made.learn([message(each) for each in contents])
    return made


def calls(arguments):
    return [{"id": "c", "type": "function", "function": {"name": "login", "arguments": arguments}}]


@pytest.mark.parametrize(
    ("said", "texts"),
    [
        (message([{"type": "text", "text": SECRET}]), {SECRET}),
        (message("", tool_calls=calls('{"password": "hunter2!"}')), {'{"password": "hunter2!"}', "hunter2!"}),
        (message("[removed]", tool_calls=calls("{}")), set()),
        (message("[removed]", metadata={"a": 1}), set()),
    ],
    ids=["parts", "arguments", "a blank one", "what stands in its place"],
)
def test_what_a_message_says_is_its_words_and_no_structure(said, texts):
    """The text of a message excludes types, names, empty values, and marks of an earlier redaction."""
    made = Blanker("pw", "[removed]", ())

    made.learn(said)

    assert made.texts == texts


@pytest.mark.parametrize(
    ("contents", "words", "value", "left"),
    [
        ([SECRET, SECRET + ", hush"], [], SECRET + ", hush", "[removed]"),
        (["other"], ["hunter", "hunter2"], "hunter2", "[removed]"),
        (["other"], ["h\u00fcsh"], '{"a": "h\\u00fcsh"}', '{"a": "[removed]"}'),
    ],
    ids=["texts", "words", "escapes"],
)
def test_of_two_texts_the_longer_one_goes_first(contents, words, value, left):
    """Of two texts the longer one is removed first, however JSON spells it. Otherwise its rest would stay."""
    made = blanker(*contents, words=words)

    assert made.document({"state": {"x": value}}) == {"state": {"x": left}}


def test_of_a_damaged_document_as_much_can_be_read_afterwards_as_before():
    """The replacement is valid JSON, so a damaged document does not become less readable."""
    made = blanker(SECRET, words=["hunter2"], removed='"no"')

    assert made.raw('["hunter2", ', spelled=True) == '["\\"no\\"", '


def test_words_go_from_all_of_another_message_but_what_points_to_others():
    """Text is removed from a message's names too, but not from its ids and role."""
    made = blanker(SECRET, words=["user"])

    (other,) = made.document({"messages": [message("a user", "user", metadata={"user": 1})]})["messages"]

    assert other == message("a [removed]", "user", metadata={"[removed]": 1})


def test_branches_of_a_session_in_hand_keep_their_names():
    """Only fields with text are changed in a loaded session's branches, as in stored ones."""
    branch = {"branch_id": SECRET, "state": {"x": SECRET}, "messages": []}

    made = blanker(SECRET).document({"left": [branch]})

    assert made == {"left": [{**branch, "state": {"x": "[removed]"}}]}


def test_messages_that_repeat_the_words_are_named():
    """The report names the first 1,000 messages that repeat the text, not those that merely contain a short one."""
    made = blanker(SECRET, "ok")

    made.document([message("", "as a name", metadata={SECRET: 1}), message("book", "book")])
    assert made.mentions == {"as a name"}

    made.document([message(SECRET, f"m{n}") for n in range(1500)])
    assert len(made.mentions) == 1000
