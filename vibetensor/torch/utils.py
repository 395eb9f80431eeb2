"""`torch.utils`: its data loading."""

from vibetensor import data

__all__ = ["data"]
