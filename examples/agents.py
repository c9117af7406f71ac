"""The agent of chat.py: ELIZA, from nltk; or a model, where the environment names one.

OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_API_KEY=... OPENAI_MODEL=...
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

History = list[dict[str, Any]]


def run_agent(history: History) -> str:
    """Return the answer to the last message of *history*, printed as it comes."""
    answer = ""
    for part in ask_model(history) if "OPENAI_BASE_URL" in os.environ else ask_eliza(history):
        print(part if answer else f"assistant: {part}", end="", flush=True)
        answer += part
    print()
    return answer


def ask_eliza(history: History) -> Iterator[str]:
    """Yield ELIZA's answer, word by word."""
    try:
        from nltk.chat.eliza import eliza_chatbot
    except ModuleNotFoundError:
        sys.exit("ELIZA is in the package nltk: pip install nltk")

    for n, word in enumerate(eliza_chatbot.respond(history[-1]["content"].rstrip("!.")).split()):
        if sys.stdout.isatty():
            time.sleep(0.04)
        yield f" {word}" if n else word


def ask_model(history: History) -> Iterator[str]:
    """Yield the answer of a model on an OpenAI-compatible server, as its server-sent events come in."""
    body = {"model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), "messages": history, "stream": True}
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}", "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"].rstrip("/") + "/chat/completions"
    request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (the url is the user's own choice)
    with urlopen(request, timeout=60) as events:  # noqa: S310 (as above)
        for line in events:
            event = line.removeprefix(b"data:").strip()
            if event == b"[DONE]":
                return
            if line.startswith(b"data:"):
                for choice in json.loads(event)["choices"]:
                    if text := choice["delta"].get("content"):
                        yield text
    msg = "the answer broke off before its end"
    raise ConnectionError(msg)
