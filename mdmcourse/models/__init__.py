"""The decoder read causally or bidirectionally; toy models; the registry of pairs and their loaders."""

from mdmcourse.models.cards import Card, describe
from mdmcourse.models.checkpoint import load_model, save_model
from mdmcourse.models.fetch import fetch, is_fetched
from mdmcourse.models.pairs import Pair, load_pair
from mdmcourse.models.reading import ARM, MDM, LanguageModel
from mdmcourse.models.registry import load, registry
from mdmcourse.models.tokenizer import word_tokenizer
from mdmcourse.models.toy import ToyConfig, toy_arm

__all__ = [
    "ARM", "MDM", "Card", "LanguageModel", "Pair", "ToyConfig", "describe", "fetch", "is_fetched", "load", "load_model",
    "load_pair", "registry", "save_model", "toy_arm", "word_tokenizer",
]  # fmt: skip
