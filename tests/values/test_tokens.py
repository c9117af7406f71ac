"""Tests of random tokens, which are unique across threads and processes."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyai_sessions.values.tokens import new_id, new_token


def test_an_id_is_32_hex_digits():
    """An id has 128 bits from the operating system."""
    assert re.fullmatch("[0-9a-f]{32}", new_id())


@pytest.mark.parametrize("count", [3, 6, 9, 12])
def test_a_token_is_safe_in_a_key_and_a_url(count):
    """A token has four characters per three bytes, all safe in keys and URLs."""
    assert re.fullmatch(f"[A-Za-z0-9_-]{{{count // 3 * 4}}}", new_token(count))


@pytest.mark.parametrize("draw", [new_id, lambda: new_token(12)], ids=["ids", "tokens"])
def test_tokens_of_many_threads_are_distinct(draw):
    """Tokens of many threads are all different."""
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: draw(), range(20_000)))

    assert len(set(drawn)) == len(drawn)


def test_a_forked_child_does_not_repeat_its_parent_s_tokens():
    """A forked child draws other tokens than its parent."""
    code = """if True:
        import os
        from pyai_sessions.values.tokens import new_id, new_token
        new_token(12), new_id()
        reader, writer = os.pipe()
        child = os.fork()
        drawn = ",".join([*(new_token(12) for _ in range(500)), *(new_id() for _ in range(200))])
        if child == 0:
            os.write(writer, drawn.encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert set(drawn.split(",")).isdisjoint(os.read(reader, 100_000).decode().split(","))
    """

    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
