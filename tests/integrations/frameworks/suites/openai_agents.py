"""A plugin of pytest for the tests of OpenAI's Agents SDK: a session of ours stands in for its SQLiteSession."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import agents
import agents.memory
import pytest

from pyai_sessions import SessionManager
from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession

TESTS = (
    "memory/test_session.py",
    "memory/test_session_limit.py",
    "memory/test_openai_responses_compaction_session.py",
    "memory/test_compaction_model_visibility.py",
    "extensions/memory/test_encrypt_session.py",
    "deferred_session_writes",
    "test_hitl_session_scenario.py",
    "test_max_turns.py",
)

CONNECTIONS = "looks at the connections, locks and tables of the SDK's SQLiteSession"
SNAPSHOT = "asks for a snapshot of the whole history by a private method, which the SDK's own sessions alone have"
ROLLBACK = "rolls a pop back by a private method, which the SDK's own sessions alone have"
LEFT_OUT = {
    "test_sqlite_session_close_closes_worker_thread_connections": CONNECTIONS,
    "test_sqlite_session_reaps_connections_from_exited_worker_threads": CONNECTIONS,
    "test_sqlite_session_closes_retired_connections_before_the_next_allocation": CONNECTIONS,
    "test_sqlite_session_keeps_connections_of_live_worker_threads": CONNECTIONS,
    "test_sqlite_session_closed_rejects_empty_add_items": "adds no items to a closed storage, and expects an error",
    "test_sqlite_session_pop_item_skips_corrupt_most_recent": CONNECTIONS,
    "test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows": CONNECTIONS,
    "test_sqlite_session_get_items_limit_skips_corrupt_newest_rows": CONNECTIONS,
    "test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows": CONNECTIONS,
    "test_sqlite_session_file_lock_is_shared_across_instances": CONNECTIONS,
    "test_sqlite_session_failed_add_items_releases_write_lock": CONNECTIONS,
    "test_sqlite_session_failed_clear_session_rolls_back": CONNECTIONS,
    "test_sqlite_session_failed_pop_item_releases_write_lock": CONNECTIONS,
    "test_sqlite_session_rollback_failure_evicts_connection": CONNECTIONS,
    "test_sqlite_session_close_retries_quarantined_connection": CONNECTIONS,
    "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome": CONNECTIONS,
    "test_settled_pop_failure_invalidates_response_chain": CONNECTIONS,
    "test_settled_clear_failure_invalidates_response_chain": CONNECTIONS,
    "test_session_settings_rejects_unknown_dictionary_fields": "expects the words of an error of the SDK",
    "test_automatic_compaction_rollback_budget": SNAPSHOT,
    "test_backend_read_limit_cannot_hide_retained_history_from_compaction": SNAPSHOT,
    "test_automatic_compaction_does_not_reload_unbounded_hidden_history": SNAPSHOT,
    "test_expired_read_overhead_does_not_authorize_hidden_history": SNAPSHOT,
    "test_encrypted_compaction_skips_unencrypted_stored_history": SNAPSHOT,
    "test_encrypted_pop_wrong_key_preserves_recoverable_history": ROLLBACK,
    "test_encrypted_pop_rechecks_authentication_after_expired_tail": ROLLBACK,
    "test_encrypted_pop_authentication_is_atomic_with_concurrent_mutations": ROLLBACK,
    "test_encrypted_pop_wrong_key_preserves_row_identity": ROLLBACK,
    "test_encrypted_pop_cancellation_waits_for_authentication_rollback": ROLLBACK,
    "test_encrypted_pop_preserves_sqlalchemy_history": "is about the SDK's SQLAlchemySession",
    "test_encrypted_session_scan_budget_rejects_negative_limit_before_read": "wants all items for a limit below 0",
}
"""The tests that are left out, by their names, and why."""


class SQLiteSession(OpenAIAgentsSession):
    """An OpenAIAgentsSession that is opened as the SDK's own session is."""

    def __init__(self, session_id: str, db_path: Any = ":memory:", *, session_settings: Any = None) -> None:
        if str(db_path) == ":memory:":
            db_path = Path(tempfile.mkdtemp()) / "memory"
        self.manager = SessionManager(f"sqlite:///{db_path}.ours")
        super().__init__(session_id, self.manager, session_settings=session_settings or {})

    def close(self) -> None:
        """Close the file."""
        self.manager.close()


agents.SQLiteSession = agents.memory.SQLiteSession = SQLiteSession  # before a test imports it


def pytest_configure(config: pytest.Config) -> None:
    config.args = [f"tests/{each}" for each in TESTS]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [each for each in items if getattr(each, "originalname", each.name) in LEFT_OUT]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in items if each not in left_out]
