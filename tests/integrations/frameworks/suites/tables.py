"""The tests of frameworks that run on our storage, and those that are left out, each with its reason."""

from __future__ import annotations

from typing import NamedTuple


class Suite(NamedTuple):
    """What is run of the tests of a framework: files or folders, without the tests that are left out."""

    tests: tuple[str, ...]
    left_out: dict[str, str]


CONNECTIONS = "looks at the connections, locks and tables of the SDK's SQLiteSession"
SNAPSHOT = "asks for a snapshot of the whole history by a private method, which the SDK's own sessions alone have"
ROLLBACK = "rolls a pop back by a private method, which the SDK's own sessions alone have"
EMPTY = "adds no items to a closed session, and expects an error"
NEGATIVE = "expects all items for a limit below 0"
TIMES = "writes times into the dictionaries of the SDK's InMemorySessionStore"
STEPS = "waits some steps of the event loop, in which only a store that asks no thread is ready"
STRANDS = (
    "session_id_delegates_to_session_manager",
    "metadata_carries_session_id_with_manager",
    "metadata_shared_across_agents_on_same_session",
    "agent_metadata_reaches_model_stream_with_session_manager",
    "shared_model_carries_each_agents_own_session",
    "agent_session_management",
    "agent_restored_from_session_management",
    "agent_restored_from_session_management_with_message",
    "agent_restored_from_session_management_with_redacted_input",
    "agent_restored_from_session_management_with_correct_index",
    "agent_with_session_and_conversation_manager",
)
"""Those of the tests of Strands' agent that use a repository."""
STRANDS_STORAGE = (
    "write_and_read",
    "read_missing_returns_none",
    "write_overwrites",
    "delete_existing",
    "delete_missing_is_noop",
    "list_all",
    "list_with_prefix",
    "list_nested",
    "list_empty_dir",
    "list_prefix_narrows_directory",
    "list_prefix_nonexistent_dir",
    "list_prefix_partial_match_dir",
    "search_returns_matching_results",
    "binary_round_trip",
)
"""Those of the tests of Strands' files that are about its protocol Storage. Others are about paths and sandboxes."""
NAMESPACE = "asks for a view by namespace(), which Strands' own storages have, and its protocol Storage has not"

SUITES = {
    "openai_agents": Suite(
        (
            "tests/memory/test_session.py",
            "tests/memory/test_session_limit.py",
            "tests/memory/test_openai_responses_compaction_session.py",
            "tests/memory/test_compaction_model_visibility.py",
            "tests/extensions/memory/test_encrypt_session.py",
            "tests/deferred_session_writes",
            "tests/test_hitl_session_scenario.py",
            "tests/test_max_turns.py",
        ),
        {
            "test_sqlite_session_close_closes_worker_thread_connections": CONNECTIONS,
            "test_sqlite_session_reaps_connections_from_exited_worker_threads": CONNECTIONS,
            "test_sqlite_session_closes_retired_connections_before_the_next_allocation": CONNECTIONS,
            "test_sqlite_session_keeps_connections_of_live_worker_threads": CONNECTIONS,
            "test_sqlite_session_closed_rejects_empty_add_items": EMPTY,
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
            "TestOpenAIResponsesCompactionSession::test_settled_pop_failure_invalidates_response_chain": CONNECTIONS,
            "TestOpenAIResponsesCompactionSession::test_settled_clear_failure_invalidates_response_chain": CONNECTIONS,
            "test_session_settings_rejects_unknown_dictionary_fields": "expects the words of an error of the SDK",
            "TestOpenAIResponsesCompactionSession::test_automatic_compaction_rollback_budget": SNAPSHOT,
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
            "test_encrypted_session_scan_budget_rejects_negative_limit_before_read": NEGATIVE,
        },
    ),
    "claude_agent_sdk": Suite(
        (
            "tests/test_session_store_conformance.py",
            "tests/test_session_store_anyio.py",
            "tests/test_session_helpers_store.py",
            "tests/test_session_import.py",
            "tests/test_session_resume.py",
            "tests/test_session_summary.py",
            "tests/test_transcript_mirror.py",
        ),
        {
            "TestHappyPath::test_continue_picks_most_recent": TIMES,
            "TestHappyPath::test_continue_skips_sidechain_sessions": TIMES,
            "TestHappyPath::test_continue_tie_break_is_deterministic": TIMES,
            "TestListSessionsFromStore::test_load_concurrency_is_bounded": STEPS,
            "TestListSessionsFromStoreFastPath::test_gap_fill_bounded_concurrency": STEPS,
            "TestTimeoutsAndErrors::test_cancelled_after_mkdtemp_cleans_temp_dir": STEPS,
            "TestReceiveLoopFramePeeling::test_eager_flush_mode_appends_per_frame_before_result": STEPS,
        },
    ),
    "strands": Suite(
        (
            "tests/strands/session/test_repository_session_manager.py",
            "tests/strands/session/test_snapshot_session_manager.py",
            *(
                f"tests/strands/storage/test_local_file_storage.py::TestLocalFileStorage::test_{each}"
                for each in STRANDS_STORAGE
            ),
            *(f"tests/strands/agent/test_agent.py::test_{each}" for each in STRANDS),
            "tests/strands/agent/test_agent_delegation.py::test_delegation_emits_correct_history_and_single_assistant_event",
            "tests/strands/agent/test_agent_delegation.py::test_persisted_matches_in_memory_after_delegation",
            "tests/strands/models/routing/test_router.py::test_routing_forwards_agent_metadata_to_the_selected_alternate",
        ),
        {
            "test_prenamespaced_storage_is_not_double_prefixed": NAMESPACE,
            "TestSnapshotStashIntegration::test_delete_session_with_scoped_agent_storage_keeps_other_data": NAMESPACE,
        },
    ),
    "chatkit": Suite(
        ("tests/test_store.py", "tests/test_chatkit_server.py"),
        {"test_delete_thread": "expects the words of the error of the store that the tests are written for"},
    ),
}
