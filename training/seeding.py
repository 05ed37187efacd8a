"""The one seeding function."""

import random

import numpy as np
import torch


def seed_all(seed: int, epoch: int | None = None, rank: int = 0) -> None:
    """Set every generator from a run's seed, and at the start of each epoch from (seed, epoch, rank).

    What an epoch draws is so a function of these numbers alone: a resumed run goes on bit for bit as if it had never
    stopped, and nothing leaks from one job of a sweep into the next.
    """
    entropy = [seed] if epoch is None else [seed, epoch, rank]
    state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
