"""Text for character models: where it comes from, its vocabulary, and random windows of it."""

from __future__ import annotations

import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vibetensor import _C

UNKNOWN = "\ufffd"  # stands for characters too rare to learn

_MAX_CHARACTERS = 4_000_000
_MIN_COUNT = 20


def read(path: str | None) -> str:
    """The text of a file, or of the running Python's own standard library.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty, or is not UTF-8.
    """
    if path is None:
        return _standard_library()
    data = Path(path).read_bytes()
    if not data:
        raise ValueError(f"{path}: the file is empty; give one with text to learn from")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text: byte {data[error.start]:#04x} at offset {error.start} "
            f"({error.reason}); convert it, for instance with iconv -t UTF-8"
        ) from None


def _standard_library() -> str:
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts: list[str] = []
    size = 0
    for path in sorted(folder.glob("*.py")) + sorted(folder.glob("[a-z]*/*.py")):
        if "site-packages" in path.parts or "test" in path.parts or size > _MAX_CHARACTERS:
            continue
        try:
            parts.append(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):  # a file of somebody else's in that folder
            continue
        size += len(parts[-1])
    if not parts:
        raise ValueError(f"{folder} holds no Python sources to learn from; give --text FILE")
    return "".join(parts)


class Vocabulary:
    """The characters of a text that occur often enough; all others are one unknown character."""

    def __init__(self, text: str) -> None:
        counts = Counter(text)
        threshold = min(_MIN_COUNT, max(counts.values()))
        kept = {character for character, count in counts.items() if count >= threshold}
        self.characters = sorted(kept | ({UNKNOWN} if len(kept) < len(counts) else set()))
        self._ids = {character: i for i, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The ids of a text; ValueError if it has a character that cannot be told."""
        unknown = self._ids.get(UNKNOWN)
        ids = [self._ids.get(character, unknown) for character in text]
        if None in ids:
            raise ValueError(f"character {text[ids.index(None)]!r} is not in the vocabulary")
        return np.array(ids, dtype=np.int64)

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        return "".join(self.characters[i] for i in ids)


class Windows:
    """Endless batches (ids, the ids that follow each), int64 [batch, context], drawn at random.

    Batch number i depends only on the seed and on i, so a run goes on exactly where it stopped.

    Raises:
        ValueError: the text is no longer than one window.
    """

    def __init__(
        self, ids: np.ndarray[Any, np.dtype[np.int64]], context: int, batch: int, seed: int
    ) -> None:
        if len(ids) < context + 2:
            raise ValueError(
                f"the text has {len(ids)} characters, too few for windows of {context} and the one "
                "that follows; give a longer text or a smaller --context"
            )
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self._ids = ids
        self._context = context
        self._batch = batch
        self._seed = seed
        self._next = 0

    def __iter__(self) -> Iterator[tuple[_C.Tensor, _C.Tensor]]:
        while True:
            numbers = np.random.Generator(np.random.Philox(key=self._seed, counter=self._next))
            self._next += 1
            starts = numbers.integers(len(self._ids) - self._context, size=self._batch)
            places = starts[:, None] + np.arange(self._context)
            yield _C.from_numpy(self._ids[places]), _C.from_numpy(self._ids[places + 1])

    def state_dict(self) -> dict[str, int]:
        """The number of the next batch."""
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues with that batch."""
        self._next = int(state["next"])
