"""Secrets in what people read: keys, tokens and passwords are masked, and counted by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

_KINDS = {
    "private key": r"-----BEGIN (?:[A-Z ]+ )?PRIVATE KEY-----.*?(?:-----END (?:[A-Z ]+ )?PRIVATE KEY-----|\Z)",
    "Anthropic key": r"\bsk-ant-[\w-]{16,}",
    "OpenAI key": r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    "GitLab token": r"\bglpat-[\w-]{20,}",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "Google key": r"\bAIza[\w-]{35}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "PyPI token": r"\bpypi-[\w-]{50,}",
    "JSON Web Token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "password in a url": r"(?<=://)[^\s/:@]*:[^\s/@]+(?=@)",
    "bearer token": r"(?i)(?<=\bbearer )[\w.~+/-]{16,}=*",
    "password": (
        r"""(?ix)(?: (?<=\bpassword) | (?<=\bpasswd) | (?<=\bpassphrase) | (?<=api_key) | (?<=api-key) | (?<=apikey)"""
        r""" | (?<=secret) | (?<=access_token) | (?<=auth_token) | (?<=\bpwd) )"""
        r"""["']? \s* (?: [:=] | \s is \s+ (?=\S*\d) ) \s* ["']? (?P<secret> [^\s"',;)}\]]{5,} [^\s"',;)}\].!?] )"""
    ),
}
"""What a secret looks like, by its kind. The first that fits has it."""

_PATTERNS = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in _KINDS.items()}


class Masks:
    """Masks secrets in texts, and counts them; one that is not to mask returns what it is given.

    >>> masks = Masks()
    >>> masks.text("My key is sk-abcdefghijklmnopqrstuvwx.")
    'My key is [masked: OpenAI key].'
    >>> masks.found
    Counter({'OpenAI key': 1})

    """

    def __init__(self, *, on: bool = True) -> None:
        self._on = on
        self.found: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """Return a text without the secrets in it."""
        if self._on:
            for kind, pattern in _PATTERNS.items():
                text = pattern.sub(partial(self._masked, kind), text)
        return text

    def _masked(self, kind: str, found: re.Match[str]) -> str:
        secret = found.groupdict().get("secret")
        if secret is not None and secret.startswith("[masked:"):
            return found[0]
        self.found[kind] += 1
        mask = f"[masked: {kind}]"
        return mask if secret is None else found[0][: found.start("secret") - found.start()] + mask

    def value(self, value: Any) -> Any:
        """Return JSON without the secrets in its texts."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self._entry(str(key), each) for key, each in cast("Mapping[str, Any]", value).items()}
        if isinstance(value, Sequence):
            return [*map(self.value, cast("Sequence[object]", value))]
        return value

    def _entry(self, key: str, value: Any) -> Any:
        """Return a value that has a name: ``{"password": "…"}`` is a secret by its name."""
        if isinstance(value, str) and self._on:
            named = f"{key}={value}"
            masked = _PATTERNS["password"].sub(partial(self._masked, "password"), named)
            if masked != named:
                return masked.removeprefix(f"{key}=")
        return self.value(value)
