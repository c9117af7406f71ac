"""Tests of paths and URLs: each opens what it names, or raises an error that says what is accepted."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import diskcache
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlitedict import SqliteDict

from pyai_sessions import (
    DiskCacheSessionStore,
    InvalidValueError,
    KVSessionStore,
    Session,
    SessionError,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageError,
    UnsuitableMappingError,
    open_store,
)

HUSH = "hush-hush"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and another folder to work in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def use(store):
    with closing(store):
        store.save(Session(user_id="ada"))
        assert SessionManager(store).count("ada") > 0


def files_in(folder):
    """Return the files below a folder, without SQLite's logs."""
    files = [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()]
    return sorted(each for each in files if not each.endswith(("-wal", "-shm")))


# Paths ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("open_it", "made"),
    [
        (lambda: SQLiteSessionStore("~/chat.db"), "chat.db"),
        (lambda: SQLiteSessionStore(Path("~/new/chat.db")), "new/chat.db"),
        (lambda: SQLiteSessionStore(b"~/chat.db"), "chat.db"),
        (lambda: KVSessionStore(SQLiteMapping("~/chat.db")), "chat.db"),
        (lambda: DiskCacheSessionStore("~/chat"), "chat/cache.db"),
        (lambda: open_store("sqlite:///~/chat.db"), "chat.db"),
        (lambda: open_store("diskcache://~/chat"), "chat/cache.db"),
        (lambda: open_store(Path("~/chat.db")), "chat.db"),
    ],
)
def test_a_tilde_is_the_home_folder(home, open_it, made):
    """A tilde is the home folder in every form of path."""
    use(open_it())

    assert files_in(home) == [made]
    assert files_in(Path.cwd()) == []


def test_a_file_named_with_a_tilde_is_written_with_a_dot_before(home):
    """A "~" that names no home folder raises an error that says how to write such a file name."""
    with pytest.raises(InvalidValueError, match=r"'~chat\.db', which names no home folder; .* '\./~chat\.db'"):
        SQLiteSessionStore("~chat.db")

    use(SQLiteSessionStore("./~chat.db"))
    assert files_in(Path.cwd()) == ["~chat.db"]


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_path_is_taken_in_any_form(home, kind):
    """Text, Path and bytes name the same file or directory."""
    use(SQLiteSessionStore(kind("folder/chat.db")))
    use(DiskCacheSessionStore(kind("cache")))

    assert files_in(Path.cwd()) == ["cache/cache.db", "folder/chat.db"]


@pytest.mark.parametrize(
    "url", ["sqlite:///chat.db", "redis://:hush-hush@localhost", "file:chat.db", "postgresql://ada:hush-hush@x/y"]
)
@pytest.mark.parametrize("kind", [SQLiteSessionStore, SQLiteMapping, DiskCacheSessionStore])
def test_a_url_that_is_given_as_a_path_is_refused(home, kind, url):
    """The error says what takes URLs. Nothing is made, and no password is shown."""
    with pytest.raises(InvalidValueError, match=r"is a url .* open_store\(url\)") as caught:
        kind(url)

    assert HUSH not in str(caught.value)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("path", ["", b"", None, 5, object(), "a\0b", b"a\0b", "a\ud800b", "chat.db/", ["chat.db"]])
def test_what_no_path_can_be_is_refused(home, path):
    """An invalid path raises before anything is made."""
    with pytest.raises(InvalidValueError) as caught:
        SQLiteSessionStore(path)

    assert caught.value.path == "path"
    if path != "chat.db/":
        with pytest.raises(InvalidValueError) as caught:
            DiskCacheSessionStore(path)
        assert caught.value.path == "directory"
    assert list(Path.cwd().iterdir()) == []


def test_a_directory_whose_name_diskcache_would_replace_is_refused(home):
    """A directory name in which diskcache would replace environment variables raises."""
    with pytest.raises(InvalidValueError, match=r"holds a '\$'"):
        DiskCacheSessionStore("$HOME/chat")

    use(SQLiteSessionStore("$HOME/chat.db"))
    assert files_in(Path.cwd()) == ["$HOME/chat.db"]


def test_a_relative_path_in_a_folder_that_is_gone_is_refused(home):
    """A relative path in a removed folder raises, with the remedy. An absolute one works."""
    gone = home / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()

    with pytest.raises(StorageError, match="the current folder was deleted; change to another"):
        SQLiteSessionStore("chat.db")

    use(SQLiteSessionStore(home / "chat.db"))


def open_sqlite_dict(path):
    return SqliteDict(path)


def open_index(path):
    return diskcache.Index(path)


def open_cache(path):
    return diskcache.Cache(path, eviction_policy="none")


@pytest.mark.parametrize("open_it", [open_sqlite_dict, open_index, open_cache])
@pytest.mark.parametrize("name", ["chat", "a%41 b", "\udcff"])
def test_a_mapping_of_a_relative_path_is_the_one_that_it_has_open(home, open_it, name):
    """A mapping opened by a relative path stays the same if the current folder changes."""
    mapping = open_it(name)
    at_first = Path.cwd()
    os.chdir(home)

    with closing(KVSessionStore(mapping)) as store:
        store.save(Session(session_id="s", user_id="ada"))
    mapping_of = getattr(mapping, "cache", mapping)
    mapping_of.close()

    assert files_in(home) == []
    os.chdir(at_first)
    again = open_it(name)
    with closing(KVSessionStore(again)) as store:
        assert store.get("s").user_id == "ada"
    getattr(again, "cache", again).close()


def test_a_diskcache_of_a_relative_path_that_a_thread_cannot_find_is_refused(home):
    """A diskcache that would open another directory in a new thread raises."""
    index = diskcache.Index("chat")
    os.chdir(home)

    with ThreadPoolExecutor(1) as executor, pytest.raises(UnsuitableMappingError, match="relative path"):
        executor.submit(KVSessionStore, index).result(timeout=60)

    index.cache.close()
    assert files_in(home) == []


# What a manager and a store are given -----------------------------------------------------------------------------


def test_a_path_object_is_an_sqlite_file(home):
    """A manager opens a Path as an SQLite file, and closes it."""
    with SessionManager(Path("chat.db")) as manager:
        manager.create_session("ada", session_id="s")

    with closing(SQLiteSessionStore("chat.db")) as store:
        assert store.get("s") is not None


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("chat.db", "write|sqlite:///chat.db"),
        ("data/chat.db", "sqlite:///data/chat.db"),
        ("sqlite:chat.db", "sqlite:///chat.db"),
        ("sqlite://chat.db", "sqlite:///chat.db"),
        ("sqlite://~/chat.db", "third one begins the path"),
        ("postgresql://ada:hush-hush@localhost/chat", "a SessionStore of your own"),
        ("mysql://x", "a SessionStore of your own"),
        ("valkey://localhost", "write redis://"),
        ("file:///chat.db", "write sqlite:///"),
        ("memory://chat", "write memory://"),
        ("redis:hush-hush", "redis://localhost"),
        (f"redis//:{HUSH}@localhost", "redis://localhost"),
        (f"ada:{HUSH}", "redis://localhost"),
        (f"ada {HUSH} localhost", "redis://localhost"),
        (f"diskcache://ada:{HUSH}@host/chat", "a directory on this machine"),
    ],
)
def test_text_that_names_no_store_is_refused_with_the_remedy(home, given_, words):
    """Such text raises, makes nothing, and is not shown with a possible password."""
    with pytest.raises(InvalidValueError, match=words) as caught:
        SessionManager(given_)

    assert caught.value.path == "url"
    assert HUSH not in str(caught.value)
    assert list(Path.cwd().iterdir()) == []


class Guesses(dict):
    def __missing__(self, key):
        return "{}"


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("bytearray()", "is no mutable mapping"),
        ("memoryview(b'')", "is no mutable mapping"),
        ("array.array('b')", "is no mutable mapping"),
        ("collections.deque()", "is no mutable mapping"),
        ("[]", "is no mutable mapping"),
        ("set()", "is no mutable mapping"),
        ("b'chat.db'", "is no mutable mapping"),
        ("5", "is no mutable mapping"),
        ("dict", "is no mutable mapping"),
        ("collections.defaultdict(dict)", "use a dict"),
        ("collections.defaultdict(lambda: 1 / 0)", "use a dict"),
        ("collections.Counter()", "use a dict"),
        ("Guesses()", "use a dict"),
    ],
)
def test_what_is_no_mapping_or_makes_values_up_is_refused(given_, words):
    """A mapping that makes up missing values, or none at all, raises when the manager is made."""
    import array
    import collections

    made = eval(given_, {"array": array, "collections": collections, "Guesses": Guesses})  # noqa: S307 (our own text)

    with pytest.raises(UnsuitableMappingError, match=words):
        SessionManager(made)


def test_a_mapping_that_knows_of_missing_keys_and_makes_none_up_is_taken():
    """A ChainMap, and a defaultdict without a factory, are accepted."""
    from collections import ChainMap, defaultdict

    for each in (ChainMap({}), defaultdict(None)):
        manager = SessionManager(each)
        manager.create_session("ada", session_id="s")
        assert manager.get_session("s").user_id == "ada"


def test_a_store_is_not_made_of_a_url_or_a_path():
    """The error names the functions that open them."""
    for each in ("sqlite:///chat.db", Path("chat.db")):
        with pytest.raises(UnsuitableMappingError, match=r"open_store\(url\)"):
            KVSessionStore(each)


@pytest.mark.parametrize("session", [None, "s", {}, 5])
def test_a_history_is_loaded_of_a_session_alone(session):
    """`load_history` of anything else raises."""
    with pytest.raises(InvalidValueError, match="it is a Session"):
        SessionManager().load_history(session)


# Any path and any url -------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *("~", "~/", "~root", "/", "//", "..", ".", "a", "ä", "\U0001f600", " ", "\n", "\t", "\0", "\ud800", "\udcff"),
        *("%", "%20", "%41", "%FF", "%00", "?", "#", "&", "=", ":", "@", "[", "]", "+", ";", "$HOME", "${HOME}", "$x"),
        *(":memory:", "sqlite://", "sqlite:///", "redis:", "file:", "C:", "x" * 300, "*", "'", '"', "-wal", "\\"),
    ]
)
PATHS = st.lists(PIECES, max_size=6).map("".join)
IN_TEMPORARY_FOLDERS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(open_it):
    """Use a store if it opens, else return the error."""
    refused = None
    try:
        use(open_it())
    except SessionError as err:
        refused = err
    text = str(refused)
    text.encode()  # it can be printed
    assert HUSH not in text
    return refused


def at_home(path):
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 (a Path does otherwise)


def is_there(path):
    return path.is_file() and path.read_bytes().startswith(b"SQLite format 3")


@pytest.fixture
def fresh(home):
    """Return a function that makes a new folder, and works in it."""
    work = Path.cwd()
    numbers = iter(range(10**6))

    def fresh():
        folder = work / f"work{next(numbers)}" / "here"
        folder.mkdir(parents=True)
        os.chdir(folder)
        return folder

    return fresh


@IN_TEMPORARY_FOLDERS
@given(path=PATHS, kind=st.sampled_from([str, os.fsencode, Path]))
@example(path="~\udcff", kind=str)
@example(path="a\udcffb", kind=str)
@example(path="~", kind=str)
@example(path="a//b/../c", kind=str)
def test_any_path_is_the_file_that_it_names_or_refused(fresh, path, kind):
    """Any path of a file names that file, or raises."""
    here = fresh()
    try:
        given_ = kind(path)
    except (UnicodeError, ValueError):
        return

    refused = outcome(lambda: SQLiteSessionStore(given_))

    if refused is None and path != ":memory:":
        assert is_there(here / at_home(os.fspath(given_) if kind is Path else path))


@IN_TEMPORARY_FOLDERS
@given(path=PATHS)
@example(path="$x")
def test_any_directory_is_the_one_that_it_names_or_refused(fresh, path):
    """Any path of a directory names that directory, or raises."""
    here = fresh()

    refused = outcome(lambda: DiskCacheSessionStore(path))

    if refused is None:
        assert is_there(here / at_home(path) / "cache.db")


@IN_TEMPORARY_FOLDERS
@given(path=PATHS)
@example(path="a?b#c%41")
def test_any_path_that_is_quoted_in_a_url_is_the_file_that_it_names(fresh, path):
    """A path quoted by `urllib.parse.quote` in a URL names the same file as for SQLiteSessionStore."""
    here = fresh()
    try:
        url = f"sqlite:///{quote(os.fsencode(path))}"
    except UnicodeError:
        return

    refused = outcome(lambda: open_store(url))

    if path:
        assert type(refused) is type(outcome(lambda: SQLiteSessionStore(path)))
    if refused is None and path != ":memory:":
        assert is_there(here / at_home(path))


@IN_TEMPORARY_FOLDERS
@given(
    scheme=st.sampled_from(["sqlite://", "sqlite:///", "diskcache://", "memory://", "x://", "sqlite:", ""]),
    rest=PATHS,
    query=st.sampled_from(
        ["", "?", "?ttl=5", f"?ttl={'9' * 5000}", f"?x={HUSH}", "?ttl=٣", "?namespace=%FF", "?sliding=no"]
    ),
)
def test_any_url_is_opened_or_refused(fresh, scheme, rest, query):
    """Any URL opens, or raises our own error. Nothing outside the folder is made."""
    fresh()

    outcome(lambda: open_store(scheme + rest + query))
