"""Optimizers over flat arenas, and learning rate schedules."""

from vibetensor.optim import lr_scheduler
from vibetensor.optim.adam import Adam, AdamW
from vibetensor.optim.arena import Arena
from vibetensor.optim.optimizer import Optimizer
from vibetensor.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Arena", "Optimizer", "lr_scheduler"]
