"""A plain search that reads everything, to compare `Searcher` with."""

import unicodedata

import regex

UNSPACED = (
    r"\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\p{Script=Han}\p{Script=Hiragana}"
    r"\p{Script=Katakana}"
)
WORD = regex.compile(
    rf"[{UNSPACED}--[\P{{L}}&&\P{{N}}&&\P{{M}}]]|[ー]|\p{{So}}|[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}ー]]+",
    regex.VERSION1,
)


def folded(text):
    """Return a text without case, accents and forms."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.casefold()).casefold())
    return unicodedata.normalize("NFC", "".join(each for each in text if not "\u0300" <= each <= "\u036f"))


def words(text):
    return WORD.findall(folded(text))


def has_phrase(text, phrase, *, prefix=False):
    """Return whether a text has the words of a phrase in sequence."""
    there, wanted = words(text), words(phrase)
    for n in range(len(there) - len(wanted) + 1):
        part = there[n : n + len(wanted)]
        if part == wanted or (prefix and part[:-1] == wanted[:-1] and part[-1].startswith(wanted[-1])):
            return True
    return False


def texts(message):
    """Return the texts of a message whose content is text or a list of text parts."""
    if message.role == "tool":
        return []
    if isinstance(message.content, str):
        return [message.content]
    return [each["text"] for each in message.content]


def is_hit(message, all_of, none_of=()):
    """Return whether a message has one phrase of each group, and none of the excluded ones.

    A phrase that ends with ``*`` is a prefix.
    """

    def has(phrase):
        return any(has_phrase(each, phrase.rstrip("*"), prefix=phrase.endswith("*")) for each in texts(message))

    return all(any(map(has, group)) for group in all_of) and not any(map(has, none_of))


def hits(sessions, all_of, none_of=()):
    """Return the ids of matching messages, latest session first, latest message first."""
    ordered = sorted(sessions, key=lambda each: (each.active_at, each.session_id), reverse=True)
    return [
        (session.session_id, message.message_id, len(session.messages) - 1 - n)
        for session in ordered
        for n, message in enumerate(reversed(session.messages))
        if is_hit(message, all_of, none_of)
    ]
