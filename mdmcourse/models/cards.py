"""What is known of a model or a pair, as a card: origin, training, licence, size, and what nobody here has verified."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mdmcourse.errors import UnknownNameError
from mdmcourse.models import hub
from mdmcourse.models.fetch import is_fetched, models_of
from mdmcourse.models.layout import read_headers
from mdmcourse.models.pairs import Pair
from mdmcourse.models.registry import arm_of, entry, registry
from mdmcourse.naming import suggest
from mdmcourse.paths import data_dir

State = Literal["shipped", "fetched", "not fetched", "to be trained"]


@dataclass(frozen=True)
class Card:
    """What is known of a model or a pair. Printed, or shown in a notebook, it is a page to read.

    Attributes
    ----------
    name, title: as in the registry.
    models: the names of its models in the registry: one, or ARM and MDM. None for what the course ships whole.
    made: what was trained from what; how the MDM is read.
    trained_on, objective: of the MDM. Quoted from its authors for published ones.
    licences: one for each model, or one for all.
    parameters: of each model that is in memory at once: one, or ARM and MDM.
    download: bytes, of all that has to be fetched.
    state: "shipped" with the course, "fetched" to this machine, "not fetched", or "to be trained": a toy that is not
        shipped.
    tasks: of a pair.
    differences: other things than the objective in which ARM and MDM differ.
    verified, unverified: what is known and how, and what is only supposed.
    links: addresses of repositories and papers.
    """

    name: str
    title: str
    models: tuple[str, ...]
    made: str
    trained_on: str
    objective: str
    licences: tuple[str, ...]
    parameters: tuple[int, ...]
    download: int
    state: State
    tasks: tuple[str, ...]
    differences: tuple[str, ...]
    verified: tuple[str, ...]
    unverified: tuple[str, ...]
    links: tuple[str, ...]

    def memory(self, bytes_a_parameter: int) -> int:
        """Bytes of weights in memory, with all its models loaded: 4 a parameter in float32, 2 in bfloat16."""
        return bytes_a_parameter * sum(self.parameters)

    def rows(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Headings, each with the lines below it; nothing is said where nothing is known."""
        sizes = " + ".join(amount(count, "") for count in self.parameters)
        memory = f"{amount(self.memory(4))} in float32, {amount(self.memory(2))} in bfloat16, weights alone"
        state = self.state if self.state != "not fetched" else f"not fetched; a download of {amount(self.download)}"
        everything: list[tuple[str, tuple[str, ...]]] = [
            ("What it is", (self.made,)),
            ("Trained on", (self.trained_on,)),
            ("Objective", (self.objective,)),
            ("Tasks", (", ".join(self.tasks),)),
            ("Parameters", (sizes,)),
            ("Memory", (memory,)),
            ("On this machine", (state,)),
            ("Licence of the weights", self.licences),
            ("Known differences", self.differences),
            ("Verified", self.verified),
            ("Not verified", self.unverified),
            ("Links", self.links),
        ]
        return ((heading, kept) for heading, lines in everything if (kept := tuple(filter(None, lines))))

    def __repr__(self) -> str:
        lines = [f"{self.name}: {self.title}"]
        for heading, said in self.rows():
            wrapped = [part for line in said for part in textwrap.wrap(line, 92, break_long_words=False)]
            lines.append(f"  {heading + ':':<24}{wrapped[0]}")
            lines += [f"  {'':<24}{line}" for line in wrapped[1:]]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = (
            f"<tr><th>{html.escape(heading)}</th><td>{'<br>'.join(map(_line, said))}</td></tr>"
            for heading, said in self.rows()
        )
        caption = f"<caption><b>{html.escape(self.title)}</b> (<code>{html.escape(self.name)}</code>)</caption>"
        return f"<table>{caption}{''.join(cells)}</table>"


def describe(what: str | Pair) -> Card:
    """The card of a pair, or of a model, by its name or itself. A name that both have is the pair's.

    >>> describe("dream-7b")

    Raises UnknownNameError.
    """
    name = what.name if isinstance(what, Pair) else what
    if name in registry()["pairs"]:
        return _of_pair(name, entry("pairs", name))
    if name in registry()["models"]:
        return _of_model(name, entry("models", name))
    raise UnknownNameError(*suggest("model or pair", name, [*registry()["pairs"], *registry()["models"]]))


def _of_pair(name: str, about: dict[str, Any]) -> Card:
    models = tuple(models_of(name))
    entries = [entry("models", model) for model in models]
    if "mdm" in about:
        arm, mdm = entries
        made = f"ARM: {arm['title']}. MDM, made from it: {mdm['title']}; {reading(mdm)}."
        parameters = tuple(model["parameters"] for model in entries)
        licences = tuple(f"{model['title']}: {model['licence']}" for model in entries)
    elif "base" in about:
        made = f"By this project, shipped: low-rank changes of {entries[0]['title']} ({', '.join(about['members'])})."
        parameters = 2 * (entries[0]["parameters"],)
        licences = (about["licence"],)
    else:
        made = about.get("made", "A toy ARM, and an MDM made from it, by this project; full attention, shift kept.")
        if about["seeds"]:
            made += f" Shipped: seed{'s' * (len(about['seeds']) > 1)} {', '.join(map(str, about['seeds']))}."
            directory = data_dir() / about["directory"] / f"seed-{about['seeds'][0]}"
            parameters = tuple(_count(directory / member) for member in ("arm", "mdm"))
        else:
            parameters = 2 * (about["parameters"],)
        licences = (about["licence"],)
    return Card(
        name=name,
        title=about["title"],
        models=models,
        made=made,
        trained_on=about.get("trained_on", "not said"),
        objective=about.get("objective", "not said"),
        licences=licences,
        parameters=parameters,
        download=sum(map(hub.download_bytes, entries)),
        state="to be trained" if about.get("seeds") == [] else _state(models),
        tasks=tuple(about["tasks"]),
        differences=tuple(about.get("differences", ())),
        verified=_each(entries, "verified", about),
        unverified=_each(entries, "unverified", about),
        links=(*map(hub.url, entries), *about.get("links", [])),
    )


def _of_model(name: str, about: dict[str, Any]) -> Card:
    if about["kind"] == "MDM":
        arm = arm_of(name)
        made = f"An MDM, made from {entry('models', arm)['title'] if arm else 'an ARM'}; {reading(about)}."
    else:
        made = "An ARM: causal attention, every token from those before it."
    sizes = ("family", "layers", "heads", "kv_heads", "d_model", "vocabulary")
    shape = ", ".join(f"{size} {about[size]}" for size in sizes if size in about)
    return Card(
        name=name,
        title=about["title"],
        models=(name,),
        made=f"{made} ({shape})",
        trained_on="",
        objective="",
        licences=(about["licence"],),
        parameters=(about["parameters"],),
        download=hub.download_bytes(about),
        state=_state((name,)),
        tasks=(),
        differences=(),
        verified=(about["verified"],),
        unverified=(about["unverified"],),
        links=(hub.url(about),),
    )


def reading(about: dict[str, Any]) -> str:
    """How an MDM is read, in words."""
    token = f" ({about['mask_token']})" if "mask_token" in about else ""
    shift = "shift" if about["shift"] else "no shift"
    return f"{about['attention']} attention, {shift}, mask {about['mask_id']}{token}"


def amount(count: int, unit: str = "B") -> str:
    """A number of bytes or parameters for people: 15.2 GB, 135 M."""
    for size, prefix in ((1e9, "G" if unit else "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            shown = count / size
            return f"{shown:.0f} {prefix}{unit}" if shown >= 100 else f"{shown:.3g} {prefix}{unit}"
    return f"{count:.0f} {unit}".strip()


def _state(models: tuple[str, ...]) -> State:
    if not models:
        return "shipped"
    return "fetched" if all(map(is_fetched, models)) else "not fetched"


def _count(directory: Path) -> int:
    """Parameters of a shipped model, from its file."""
    total = 0
    for shape in read_headers(directory).shapes.values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


def _each(entries: list[dict[str, Any]], field: str, about: dict[str, Any]) -> tuple[str, ...]:
    """What is said of the pair, else of each of its models; what is the same is said once."""
    if field in about:
        return (about[field],)
    said = [model[field] for model in entries if field in model]
    if len(set(said)) == 1:
        return (said[0],)
    return tuple(f"{model['title']}: {model[field]}" for model in entries if field in model)


def _line(text: str) -> str:
    """A line for a page; only an address of the web becomes a link."""
    escaped = html.escape(text)
    return f'<a href="{escaped}">{escaped}</a>' if text.startswith("https://") and " " not in text else escaped
