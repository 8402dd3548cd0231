"""All pairs in a table, with what each needs and whether this machine has that."""

from __future__ import annotations

from mdmcourse.models.cards import Card, amount, describe
from mdmcourse.models.registry import registry


def list_pairs() -> str:
    """Every pair on two lines: name, sizes, download, memory, state and fit; then title and licences."""
    free = free_memory()
    width = max(map(len, registry()["pairs"]))
    lines = [
        f"{'pair':<{width}} {'parameters':<16} {'download':>9} {'float32':>9} {'bfloat16':>9}  {'state':<13} "
        "fits here in"
    ]
    for name in registry()["pairs"]:
        card = describe(name)
        sizes = " + ".join(amount(count, "") for count in card.parameters)
        download = amount(card.download) if card.download else "-"
        lines += [
            f"{name:<{width}} {sizes:<16} {download:>9} {amount(card.memory(4)):>9} {amount(card.memory(2)):>9}  "
            f"{card.state:<13} {fits(card, free)}",
            f"    {card.title}. Licence: {'; '.join(card.licences)}",
        ]
    where = ", ".join(f"{amount(size)} free on {place}" for place, size in free.items())
    lines.append(
        f"\nMemory: the weights of ARM and MDM alone; to compute takes more. This machine: {where}.\n"
        "`mdmcourse pairs NAME` says more of one, `mdmcourse fetch NAME` brings what is not here."
    )
    return "\n".join(lines)


def free_memory() -> dict[str, int]:
    """Bytes that are free, by where: "cpu", and "cuda" if there is such a device."""
    import psutil
    import torch

    free = {"cpu": psutil.virtual_memory().available}
    if torch.cuda.is_available():
        free["cuda"] = torch.cuda.mem_get_info()[0]
    return free


def fits(card: Card, free: dict[str, int]) -> str:
    """In which precision the weights of all models of a card fit, and where."""
    found = []
    for place, size in free.items():
        precision = next((name for name, width in (("float32", 4), ("bfloat16", 2)) if card.memory(width) < size), None)
        if precision:
            found.append(precision if place == "cpu" else f"{precision} ({place})")
    return ", ".join(found) or "no"
