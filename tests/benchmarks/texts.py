"""What is stored: turns of varied text, a part of it not ASCII, from a fixed seed."""

import random
from typing import Any

TEXT = "the a session über naïve answer 会话 token agent please could water Straße window 模型 never list of why ça"
WORDS = TEXT.split()

Messages = list[dict[str, Any]]


class Texts:
    """A user's messages of about 300 characters, answers of about 900."""

    def __init__(self, seed: int = 20) -> None:
        self._random = random.Random(seed)

    def text(self, size: int) -> str:
        words: list[str] = []
        length = 0
        while length < size:
            words.append(self._random.choice(WORDS))
            length += len(words[-1]) + 1
        return " ".join(words)

    def turn(self) -> Messages:
        return [{"role": "user", "content": self.text(300)}, {"role": "assistant", "content": self.text(900)}]

    def messages(self, count: int) -> Messages:
        """Return *count* messages, an even number."""
        return [each for _ in range(count // 2) for each in self.turn()]
