"""Where pip has put NVIDIA's libraries: nvidia/*/lib in the folders that Python imports from."""

import os
import sys


def folders() -> list[str]:
    """The folders that exist; none without such packages."""
    found = []
    for root in sys.path:
        packages = os.path.join(root, "nvidia")
        if os.path.isdir(packages):
            found += [os.path.join(packages, name, "lib") for name in sorted(os.listdir(packages))]
    return [folder for folder in found if os.path.isdir(folder)]
