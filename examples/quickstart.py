"""Keep a conversation in one SQLite file: create a session, add messages, save, get it again.

    python quickstart.py

Every run adds a session to sessions.db in the current folder, and lists what is there.
"""

from pyai_sessions import SessionManager, SQLiteSessionStore

manager = SessionManager(store=SQLiteSessionStore("sessions.db"))
session = manager.create_session(user_id="ada")
session.add_message("user", "Hello!")
session.add_message("assistant", "Hi there!")
manager.save(session)

for session in manager.get_sessions_for_user("ada"):
    print(session.session_id, f"{session.created_at:%Y-%m-%d %H:%M:%S}")
    for message in session.messages:
        print(f"    {message.role}: {message.content}")
