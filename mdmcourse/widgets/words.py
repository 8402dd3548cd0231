"""Tokens as they can be shown: spaces to be seen, nothing invisible, nothing that turns a line around, none endless."""

from __future__ import annotations

import unicodedata

MOST = 32  # letters of a token
SIGNS = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\x7f": "␡"}


def visible(text: str, most: int = MOST) -> str:
    """A token as one line of visible letters.

    Spaces become "␣", line ends "⏎"; control characters their pictures; what has no width, or directs the writing of
    what stands beside it, its number in ‹›. Marks, and joiners between letters, which shape scripts and emoji, are
    left. Long tokens are cut. An empty token becomes "∅".

    >>> visible(" Mary\\n")
    '␣Mary⏎'
    """
    shown: list[str] = []
    for at, letter in enumerate(text[: 2 * most]):
        joins = letter in "\u200c\u200d" and 0 < at < len(text) - 1
        shown.append(letter if joins else _shown(letter))
    whole = "".join(shown)
    return (whole if len(whole) <= most and len(text) <= most else whole[: most - 1] + "…") or "∅"


def titled_as(text: str, most: int = 100) -> str:
    """A title or a sentence, not a token: as `visible`, but spaces may stay as they are."""
    return visible(text, most).replace("␣", " ")


def _shown(letter: str) -> str:
    if letter in SIGNS:
        return SIGNS[letter]
    if ord(letter) < 0x20:
        return chr(0x2400 + ord(letter))
    category = unicodedata.category(letter)
    if category in ("Zs", "Zl", "Zp", "Cf", "Cc", "Cs", "Co", "Cn"):
        return f"‹{ord(letter):04X}›"
    return letter
