"""Arguments of captured steps: what a graph depends on, and where their tensors go."""

from __future__ import annotations

from vibetensor import _C
from vibetensor.structure import (
    Placed,
    key_of,
    leaves_of,
    map_placed,
    map_tensors,
    order_of,
    place_like,
)

FIRST, SECOND = _C.device("cuda:0"), _C.device("cuda:1")  # names only: nothing is queued there


def tensor(*shape: int) -> _C.Tensor:
    return _C.ops.zeros(list(shape))


def test_each_tensor_goes_where_its_part_of_the_argument_says() -> None:
    found: list[tuple[_C.Tensor, _C.device | None]] = []
    a, b, c = tensor(2), tensor(3), tensor(4)
    key_of(([a], {"x": Placed((b, 7), SECOND)}, c), found)
    assert [(t.shape[0], device) for t, device in found] == [(2, None), (3, SECOND), (4, None)]


def test_the_key_names_shapes_constants_and_devices() -> None:
    def key(value: object) -> object:
        return key_of(value, [])

    assert key(Placed(tensor(2), SECOND)) == key(Placed(tensor(2), SECOND))
    assert key(Placed(tensor(2), SECOND)) != key(Placed(tensor(2), FIRST))
    assert key(Placed((tensor(2), 1), FIRST)) != key(Placed((tensor(2), 2), FIRST))
    assert key([tensor(2)]) != key([tensor(3)])
    model = object()
    assert key([model]) == key([model]) != key([object()])
    assert key_of([model], [], None, lambda _: 1) != key_of([model], [], None, lambda _: 2)
    hash(key([Placed({"x": tensor(2)}, SECOND), None]))


def test_places_lie_in_memory_as_the_tensors_do() -> None:
    cpu = _C.device("cpu:0")
    dense = tensor(2, 3, 4, 5)
    for order in (None, (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)):
        given = dense if order is None else dense.permute(order)
        place = place_like(given, cpu)
        assert (place.shape, place.stride()) == (given.shape, given.stride())
    for gaps in (dense[:, :, 1:3], dense[:, ::2], dense.expand(2, 2, 3, 4, 5)):
        assert order_of(gaps) is None and place_like(gaps, cpu).is_contiguous()
    one = tensor(1, 4, 1).transpose(0, 2)
    assert place_like(one, cpu).shape == one.shape


def test_mapping_keeps_the_structure_and_says_where_tensors_go() -> None:
    value = [tensor(2), Placed([tensor(3), "text"], SECOND)]
    seen = []

    def note(t: _C.Tensor, device: _C.device) -> _C.Tensor:
        seen.append((t.shape[0], device))
        return t

    mapped = map_placed(note, value, FIRST)
    assert seen == [(2, FIRST), (3, SECOND)]
    assert mapped[1].device == SECOND and mapped[1].value[1] == "text"
    doubled = map_tensors(lambda t: t.reshape(1, -1), value)
    assert [t.shape for t in leaves_of(doubled) if isinstance(t, _C.Tensor)] == [(1, 2), (1, 3)]
