"""digits: scikit-learn's 1797 handwritten digits, told apart by an MLP or a small ViT."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import vibetensor.torch as torch
from vibetensor.data import DataLoader, TensorDataset
from vibetensor.examples import digits_models
from vibetensor.examples.task import Task
from vibetensor.nn import Module

DEFAULTS = {"steps": 600, "batch": 64, "lr": 3e-3, "clip": 1.0}

_TEST_EVERY = 5  # of the images; the others are for training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this example."""
    parser.add_argument("--model", choices=("mlp", "vit"), default="mlp", help="what to train")


def load() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images [n, 8, 8] float32 in [0, 1] and classes [n] int64: for training, then for testing.

    Raises:
        ModuleNotFoundError: scikit-learn, which brings the images, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "digits: the images come with scikit-learn; install it with "
            "pip install 'vibetensor[examples]'"
        ) from error
    found = load_digits()
    images = torch.from_numpy(found.images.astype(np.float32) / 16)
    classes = torch.from_numpy(found.target.astype(np.int64))
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(classes))
    test = torch.from_numpy(order[::_TEST_EVERY].copy())
    train = torch.from_numpy(np.delete(order, np.s_[::_TEST_EVERY]))
    return images[train], classes[train], images[test], classes[test]


def accuracy(module: Module, images: torch.Tensor, classes: torch.Tensor) -> float:
    """The share of images that the module, on whatever device, names rightly."""
    param = next(iter(module.parameters()))
    with torch.no_grad():
        logits = module(images.to(param.device).to(param.dtype))
        hits = logits.argmax(-1) == classes.to(param.device)
        return float(hits.float().mean().item())


def build(args: argparse.Namespace) -> Task:
    """The chosen model and the shuffled training images."""
    images, classes, test_images, test_classes = load()
    model = digits_models.ViT() if args.model == "vit" else digits_models.MLP()

    def report(module: Module) -> dict[str, Any]:
        return {"test_accuracy": accuracy(module, test_images, test_classes)}

    size = sum(param.numel() for param in model.parameters())
    return Task(
        model,
        DataLoader(TensorDataset(images, classes), args.batch, shuffle=True),
        digits_models.loss,
        report,
        f"{args.model} of {size / 1e3:.1f} k parameters, {len(classes)} images of digits, "
        f"{len(test_classes)} to test",
    )
