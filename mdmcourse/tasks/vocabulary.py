"""The words that toys know: one vocabulary for all toy tasks, so that every toy can read every toy task."""

from __future__ import annotations

import re
from typing import Any

from mdmcourse.models.tokenizer import word_tokenizer
from mdmcourse.tasks.ioi import NAMES, OBJECTS, PLACES, REVERSED_TEMPLATES, TEMPLATES


def toy_words() -> list[str]:
    """Names, places, objects, the words of the templates, the signs, and the numbers from -29 to 45."""
    sentences = " ".join(re.sub(r"\{\w+\}", " ", template) for template in (*TEMPLATES, *REVERSED_TEMPLATES))
    plain = sorted(set(re.findall(r"\w+|[,.]", sentences)))
    signs = ["=", ":", "+", "-", ">", ";"]
    return [*NAMES, *PLACES, *OBJECTS, *plain, *signs, *map(str, range(-29, 46))]


def toy_tokenizer() -> Any:
    """The toys' word-level tokenizer, in Hugging Face format."""
    return word_tokenizer(toy_words())
