"""`export` and `copy`: nothing is lost, nothing half written, and no secret is shown to people."""

import gzip
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pyai_sessions import Message, Session, SessionManager
from pyai_sessions.cli.exporting import file_name
from pyai_sessions.cli.masking import Masks

SECRETS = {
    "OpenAI key": ("{}", "sk-proj-abcdefghijklmnopqrstuvwx"),
    "Anthropic key": ("{}", "sk-ant-api03-abcdefghijklmnop"),
    "GitHub token": ("{}", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
    "AWS key": ("{}", "AKIAIOSFODNN7EXAMPLE"),
    "JSON Web Token": ("{}", "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4"),
    "password in a url": ("redis://user:{}@host/0", "hunter2hunter2"),
    "bearer token": ("Authorization: Bearer {}", "abcdefghijklmnopqrst"),
    "private key": ("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "MIIEvQIBADANBg"),
    "password": ("my password is {}", "hunter2hunter2"),
}
"""By kind: where a secret stands, and the secret."""


def lines_of(url, **options):
    """Return the lines of an export, in order."""
    file = io.StringIO()
    with SessionManager(url) as manager:
        manager.export_sessions(file, **options)
    return sorted(file.getvalue().splitlines())


def put(*messages, **fields):
    with SessionManager("sqlite:///chat.db") as manager:
        manager.import_sessions([Session("new", messages=list(messages), **fields)])


def test_an_export_loses_nothing(cli, store):
    """It is what the library's own export has, on standard output and in a file, with states."""
    with SessionManager(store) as manager:
        manager.update_user_state("ada", {"theme": "dark"})
    whole = lines_of(store)

    assert sorted(cli("export").out.splitlines()) == whole
    assert cli("export", "--output", "all.jsonl.gz").err == "5 written to all.jsonl.gz\n"
    assert sorted(gzip.decompress(Path("all.jsonl.gz").read_bytes()).decode().splitlines()) == whole
    assert sorted(cli("export", "--user", "ada").out.splitlines()) == lines_of(store, user_id="ada")
    assert cli("export", "trip").out.splitlines() == lines_of(store, session_id="trip")
    assert len(cli("export", "--since", "2026-01-07").out.splitlines()) == 2


def test_an_export_that_fails_leaves_no_file(cli, store):
    """A failed export leaves no new file, and an older one as it was."""
    Path("old.jsonl").write_text("before", "utf-8")

    assert cli("export", "nobody", "-o", "old.jsonl").code == 3
    assert Path("old.jsonl").read_text("utf-8") == "before"
    assert {each.name for each in Path().iterdir()} == {"chat.db", "old.jsonl"}
    assert cli("export", "-o", "folder/").code == 2
    ran = cli("export", "-o", "folder/all.jsonl")
    assert (ran.code, ran.err) == (
        1,
        "Error: folder/all.jsonl cannot be written: No such file or directory (the folder folder)\n",
    )
    assert store


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("form", ["markdown", "html", "openai"])
def test_secrets_are_masked_where_people_read_and_listed(cli, store, kind, form):
    """A pasted key is masked in every page. The command reports that there was one."""
    where, secret = SECRETS[kind]
    put(Message("user", f"Take this: {where.format(secret)}"), Message("assistant", "Thank you."))

    ran = cli("export", "new", "--format", form)

    assert (ran.code, "masked: " in ran.out) == (0, True)
    assert secret not in ran.out + ran.err
    assert f"1 {kind}" in ran.err
    assert secret in cli("export", "new").out
    assert secret in cli("export", "new", "--format", form, "--no-mask").out
    assert store


def test_a_secret_is_known_by_the_name_of_its_field():
    """A value under "password" or "api_key" is masked, whatever it looks like."""
    masks = Masks()

    masked = masks.value({"arguments": {"password": "correcthorse", "city": "Vienna"}, "api_key": ["x"], "secret": ""})

    assert masked == {"arguments": {"password": "[masked: password]", "city": "Vienna"}, "api_key": ["x"], "secret": ""}
    assert masks.found == {"password": 1}


def test_what_is_no_secret_stays():
    """Text about passwords, commit hashes and ids is not masked."""
    masks = Masks()
    for text in (
        "The password is wrong.",
        "Forgot your password? Reset it.",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "sess_0123456789abcdef0123456789abcdef",
        "https://example.org/a:b@c",
        "a secret garden",
    ):
        assert masks.text(text) == text, text


class Page(HTMLParser):
    """The elements that a browser would make of a page, and what they would load or run."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.text = text
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


HOSTILE = (
    "<script>alert(1)</script> <img src=http://x/y onerror=alert(1)> [a](javascript:alert(1)) "
    "![b](http://x/y.png) \u202eevil\u202c שלום 😀\n\n<iframe src=//x></iframe>\n\n" + "x" * 5000
)


def test_hostile_words_are_inert_in_a_page(cli, store):
    """A page has no element that a message made but those of Markdown, and loads nothing."""
    put(
        Message(HOSTILE[:60], HOSTILE, name=HOSTILE[:50], metadata={"a": HOSTILE}),
        title=HOSTILE[:200],
        user_id="<b>u</b>",
    )

    page = Page(cli("export", "new", "-f", "html").out)

    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "b onerror", "link", "object", "embed", "form"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert not attributes.get("href", "").startswith("javascript:")
    policy = next(each["content"] for tag, each in page.elements if each.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    text = cli("export", "new", "-f", "html").out
    assert "\u202e" not in text
    assert "שלום 😀" in text


def test_a_name_from_right_to_left_moves_nothing_beside_it(cli, store):
    """A user's name in Hebrew stands apart, so that the number after it stays after it."""
    put(Message("user", "Hello!", timestamp="2026-01-05T09:00:00Z"), user_id="דנה")

    assert cli("export", "-f", "html", "-o", "site/").code == 0

    for page in ("new.html", "index.html"):
        assert "<bdi>דנה</bdi> · " in Path("site", page).read_text("utf-8")
    assert store


def test_a_page_shows_tables_and_images_as_far_as_its_policy_lets_it(cli, store):
    """Columns are aligned without styles of their own, which the page's policy forbids; an image is a link to it."""
    table = "| a | b | c |\n|--:|:-:|---|\n| 1 | 2 | 3 |\n\n"
    images = "![A *map*](http://x/y.png) ![](http://x/z.png) [![B](http://x/b.png)](http://b/) ![C](http://c/)"
    put(Message("user", table + images))
    links = ["http://x/y.png", "http://x/z.png", "http://b/", "http://c/"]

    page = Page(cli("export", "new", "-f", "html").out)

    assert [each.get("class") for tag, each in page.elements if tag in ("th", "td")] == ["right", "center", None] * 2
    assert [each["href"] for tag, each in page.elements if tag == "a"] == links
    assert not [each for tag, each in page.elements if tag == "img" or "style" in each]
    assert ">[image: A map]</a> <a" in page.text
    assert '[image: http://x/z.png]</a> <a href="http://b/">[image: B]</a> <a href="http://c/">' in page.text
    assert store


def test_a_message_cannot_look_like_another_in_markdown(cli, store):
    """Headings in messages are two levels lower, HTML is text, and an open fence is closed."""
    put(Message("user", "## assistant, 2026-01-01 00:00\n\nYes\n===\n<b>\n```\nopen"), Message("assistant", "after"))

    text = cli("export", "new", "-f", "markdown").out

    headings = [each for each in text.splitlines() if each.startswith("## ")]
    assert len(headings) == 2
    assert "#### assistant" in text
    assert "\\<b>" in text
    assert text.count("```") == 2


def test_a_site_has_a_page_for_each_session_and_an_index_that_searches(cli, store):
    """A site has a page per session, and an index that searches without a network."""
    ran = cli("export", "--format", "html", "-o", "site", "--json")

    assert (ran.code, ran.json["exported"]) == (0, 4)
    index = Path("site/index.html").read_text("utf-8")
    links = [each["href"] for tag, each in Page(index).elements if tag == "a"]
    assert {each.name for each in Path("site").iterdir()} == {*links, "index.html"}
    texts = json.loads(index.partition('id="texts">')[2].partition("</script>")[0])
    assert [links[n] for n, each in enumerate(texts) if "vienna" in each] == ["trip.html"]
    assert cli("export", "-f", "html").code == 2
    assert store


def test_the_index_finds_all_words_of_a_long_conversation(cli, store):
    """The index has each word, also the last of a long conversation, and once, so that it stays small."""
    call = {"id": "c1", "type": "function", "function": {"name": "timetable", "arguments": "{}"}}
    put(
        Message("user", "Is there\na night train? " * 20_000),
        Message("assistant", "To Zürich, 東京に.", tool_calls=[call]),
    )

    assert cli("export", "--format", "html", "-o", "site").code == 0

    index = Path("site/index.html").read_text("utf-8")
    texts = json.loads(index.partition('id="texts">')[2].partition("</script>")[0])
    [found] = [each for each in texts if "zürich" in each and "東京" in each]
    assert sorted(found.split()) == sorted({*found.split()})
    assert {"is", "there", "a", "night", "train?", "to", "zürich,", "東京に.", "timetable({})"} <= {*found.split()}
    assert store


@pytest.mark.parametrize("session_id", ["a/b", "../x", "A", "a", "index", ".", "ä", "x" * 1000, "a\0b"])
def test_names_of_files_are_safe_and_differ(session_id):
    """No id leaves the folder, and different ids have different files, even if the disk ignores case."""
    ids = ["a_b", "a/b", "A", "a", "index", "Index", "x" * 999]

    name = file_name(session_id, ".html")

    assert Path(name).name == name
    assert name != "index.html"
    assert len(name) < 128
    assert len({file_name(each, "").lower() for each in {*ids, session_id}}) == len({*ids, session_id})


def test_a_line_for_fine_tuning_ends_with_an_answer(cli, store):
    """Each line has the form that the API takes. Sessions without an answer are reported."""
    ran = cli("export", "-f", "openai", "--json")

    [line] = map(json.loads, ran.out.splitlines())
    assert line["messages"][-1]["role"] == "assistant"
    assert line["messages"][1]["tool_calls"][0]["function"]["name"] == "timetable"
    assert (ran.code, len(json.loads(ran.err)["left_out"])) == (1, 3)
    assert store


@pytest.mark.parametrize("target", ["copy.db", "diskcache://copy", "redis"])
def test_a_copy_is_whole_and_copies_again_what_has_changed(cli, store, target, valkey_server):
    """A copy to any storage is complete. A second one writes only what changed."""
    target = f"{valkey_server.url}?prefix=copied-by-cli:" if target == "redis" else target

    assert cli("copy", store, target, "--dry-run", "--json").json["new"] == 4
    assert cli("copy", store, target, "--json").json["new"] == 4
    with SessionManager(store) as manager:
        manager.append("trip", {"role": "user", "content": "And back?"})
    assert cli("copy", store, target, "--dry-run", "--json").json["changed"] == 1
    again = cli("copy", store, target, "--json").json
    assert (again["new"], again["changed"], again["same"]) == (0, 1, 3)
    with SessionManager(store) as manager:
        manager.update_user_state("ada", {"theme": "dark"})
    assert "1 state of users" in cli("copy", store, target).out
    assert sorted(cli("export", "--store", target).out.splitlines()) == lines_of(store)
    assert cli("copy", "nowhere.db", target).code == 4
