"""Which process this is, and waiting for the others: under `accelerate launch` or torchrun there are several."""

from __future__ import annotations

import os

import torch

from mdmcourse.errors import InputError


def which_process(device: torch.device) -> tuple[int, int]:
    """This process's number, and how many there are: more than one only under `accelerate launch` or torchrun."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started == 1:
        return 0, 1
    from accelerate import PartialState

    # Without being told, Accelerate takes processes without a GPU for strangers: each would do all the work.
    state = PartialState(cpu=device.type == "cpu")
    if state.num_processes != started:
        raise InputError(
            f"{started} processes were started (WORLD_SIZE); Accelerate knows of {state.num_processes}.",
            "Each would compute everything, and write over the files of the others.",
            "On a CPU let Accelerate know: Accelerator(cpu=True), before attribute is called.",
        )
    return state.process_index, state.num_processes


def wait_for_all(world: int) -> None:
    """Go on when all of the `world` processes have come here."""
    if world > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
