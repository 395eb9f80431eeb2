"""Training on the fabric: data-parallel and tensor-parallel steps equal those of one device."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import fabric
from vibetensor.examples import gpt

nn, F = torch.nn, torch.nn.functional

STEPS = 3
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}  # float32; sums over ranks are added in another order


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(12, 32)
        self.down = nn.Linear(32, 8)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """Embedding, attention and MLP with residuals, and a head: what a transformer is made of."""

    def __init__(self, vocabulary=24, width=16, heads=4) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(vocabulary, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.RMSNorm(width)
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        # Without a bias: its gradient is zero, and AdamW makes steps of the rounding errors.
        self.key = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, index):
        x = self.embed(index)
        y = self.norm1(x)
        q, k, v = (self.split(layer(y)) for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x)


PLANS = {
    "MLP": {"up": "column", "down": "row"},
    "Block": {
        "query": "column",
        "key": "column",
        "value": "column",
        "out": "row",
        "up": "column",
        "down": "row",
        "embed": "row",
        "head": "column",
    },
}


def data(kind, step):
    torch.manual_seed(100 + step)
    if kind == "MLP":
        return torch.randn(8, 12), torch.randint(8, (8,))
    index = torch.randint(24, (4, 7))
    return index[:, :-1].contiguous(), index[:, 1:].contiguous()


def loss_of(model, x, y):
    out = model(x)
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("way", ["data", "tensor", "sharded weights"])
@pytest.mark.parametrize("kind", [MLP, Block], ids=["MLP", "Block"])
def test_training_equals_one_device(kind, way, optimizer, mesh):
    torch.manual_seed(0)
    alone = kind()
    model = copy.deepcopy(alone)
    plan = PLANS[kind.__name__] if way == "tensor" else None
    if way == "sharded weights":  # gathered where they are used, gradients scattered
        plan = {"*": fabric.Shard(0)}
    fabric.distribute_module(model, mesh, plan)
    batch = fabric.Replicate() if way == "tensor" else fabric.Shard(0)

    def make(module):
        if optimizer == "SGD":
            return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        return torch.optim.AdamW(module.parameters(), lr=1e-2)

    ours, theirs = make(model), make(alone)
    for step in range(STEPS):
        x, y = data(kind.__name__, step)
        expected = loss_of(alone, x, y)
        loss = loss_of(model, fabric.distribute(x, mesh, batch), fabric.distribute(y, mesh, batch))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        for _module, stepper, value in ((alone, theirs, expected), (model, ours, loss)):
            stepper.zero_grad()
            value.backward()
        for (name, mine), their in zip(model.named_parameters(), alone.parameters(), strict=False):
            got = mine.grad.full_tensor().to("cpu")
            assert torch.allclose(got, their.grad, **TOLERANCE), f"gradient of {name}, step {step}"
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item()
        assert norm == pytest.approx(
            torch.nn.utils.clip_grad_norm_(alone.parameters(), 0.5).item(), rel=1e-4
        )
        ours.step()
        theirs.step()
    for (name, mine), their in zip(model.named_parameters(), alone.parameters(), strict=False):
        got = mine.full_tensor().detach().to("cpu")
        assert torch.allclose(got, their.detach(), rtol=1e-3, atol=3e-4), name
        shards = mine.to_local_shards()
        if mine.placement.is_replicate():  # the same bits everywhere
            assert all(torch.equal(shards[0].to("cpu"), s.to("cpu")) for s in shards[1:]), name


def test_state_dict_goes_over_to_one_device_and_back(mesh):
    torch.manual_seed(1)
    model = fabric.distribute_module(MLP(), mesh, PLANS["MLP"])
    whole = {name: value.full_tensor().to("cpu") for name, value in model.state_dict().items()}
    alone = MLP()
    alone.load_state_dict(whole)
    other = fabric.distribute_module(MLP(), mesh)
    other.load_state_dict(whole)
    x = torch.randn(4, 12)
    expected = alone(x)
    for module in (model, other):
        got = module(fabric.distribute(x, mesh, fabric.Shard(0))).full_tensor().to("cpu")
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_gradients_add_up_over_passes(mesh):
    torch.manual_seed(2)
    weight = torch.randn(4, 8, requires_grad=True)
    ours = fabric.distribute(weight, mesh, fabric.Replicate())
    for step in range(3):
        x = torch.randn(4, 8)
        (weight * x).sum().backward()
        (ours * fabric.distribute(x, mesh, fabric.Shard(step % 2))).sum().backward()
        assert ours.grad.placement == fabric.Replicate()
        assert torch.allclose(ours.grad.full_tensor().to("cpu"), weight.grad, atol=1e-5)
    ours.grad = None
    assert ours.grad is None


def test_gradients_of_gradients(mesh):
    torch.manual_seed(3)
    x = torch.randn(8, 4, requires_grad=True)
    w = torch.randn(4, 4, requires_grad=True)
    ours = [
        fabric.distribute(x, mesh, fabric.Shard(0)),
        fabric.distribute(w, mesh, fabric.Replicate()),
    ]

    def penalty(a, b):
        (torch.tanh(a @ b) ** 2).sum().backward(create_graph=True)
        return (b.grad**2).sum()

    expected, loss = penalty(x, w), penalty(*ours)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    x.grad = w.grad = ours[0].grad = ours[1].grad = None
    expected.backward()
    loss.backward()
    for mine, their in zip(ours, (x, w), strict=False):
        assert torch.allclose(mine.grad.full_tensor().to("cpu"), their.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("way", ["data", "tensor"])
def test_a_model_written_for_one_device_trains_as_it_is(way, mesh):
    """It makes positions on the device of its input, and splits one projection in three."""
    torch.manual_seed(5)
    alone = gpt.GPT(vocabulary=20, context=8, width=16, heads=4, layers=2)
    plan = None
    if way == "tensor":
        plan = {"blocks.*.mlp.0": "column", "blocks.*.mlp.2": "row", "head": "column"}
    model = fabric.distribute_module(copy.deepcopy(alone), mesh, plan)
    again = copy.deepcopy(model)
    ids = torch.randint(20, (4, 8))
    expected = gpt.loss(alone(ids), ids)
    expected.backward()
    place = fabric.Replicate() if way == "tensor" else fabric.Shard(0)
    for each in (model, again):
        x = fabric.distribute(ids, mesh, place)
        loss = gpt.loss(each(x), x)
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        for (name, mine), their in zip(each.named_parameters(), alone.parameters(), strict=True):
            got = mine.grad.full_tensor().to("cpu")
            assert torch.allclose(got, their.grad, **TOLERANCE), name


def test_gradients_asked_for(mesh):
    torch.manual_seed(6)
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    expected = torch.autograd.grad((torch.tanh(x @ w) ** 2).sum(), [x, w])
    for place in (fabric.Replicate(), fabric.Shard(0), fabric.Shard(1)):
        ours = fabric.distribute(x, mesh, fabric.Shard(0)), fabric.distribute(w, mesh, place)
        hidden = ours[0] @ ours[1]
        loss = (torch.tanh(hidden) ** 2).sum()
        found = torch.autograd.grad(loss, [*ours, hidden])
        assert [t.grad for t in ours] == [None, None]
        assert [g.placement for g in found] == [fabric.Shard(0), place, fabric.Shard(0)]
        for got, wanted in zip(found, expected, strict=False):
            assert torch.allclose(got.full_tensor().to("cpu"), wanted, rtol=1e-4, atol=1e-5)
        with pytest.raises(RuntimeError, match="not have been used"):
            torch.autograd.grad((ours[0] * 2).sum(), [ours[1]])
        torch.autograd.backward([(ours[0] * 2).sum(), (ours[0] * 3).sum()])
        assert torch.equal(ours[0].grad.full_tensor().to("cpu"), torch.full((4, 8), 5.0))


def test_a_distributed_module_is_cast(mesh):
    torch.manual_seed(7)
    model = fabric.distribute_module(MLP(), mesh, PLANS["MLP"])
    x = fabric.distribute(torch.randn(4, 12), mesh, fabric.Replicate())
    wide = model(x).full_tensor()
    model(x).sum().backward()
    weight = model.up.weight
    assert model.to(torch.bfloat16) is model
    assert model.up.weight is weight
    assert (weight.dtype, weight.grad.dtype) == (torch.bfloat16, torch.bfloat16)
    narrow = model(x.to(torch.bfloat16))
    assert torch.allclose(narrow.full_tensor().float(), wide, rtol=0.1, atol=0.05)
    model.zero_grad()
    narrow.float().sum().backward()
    assert weight.grad.placement == fabric.Shard(0)
    with pytest.raises(TypeError, match="its own mesh"):
        model.to("cpu")


def test_threads_train_models_of_their_own():
    vibetensor.set_cpu_devices(4)
    mesh = fabric.mesh([f"cpu:{i}" for i in range(4)])

    def losses(number):
        model = copy.deepcopy(models[number])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        found = []
        for _ in range(10):
            optimizer.zero_grad()
            x = fabric.distribute(inputs[number], mesh, fabric.Shard(0))
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    torch.manual_seed(8)
    models = [fabric.distribute_module(MLP(), mesh, plan) for plan in (None, PLANS["MLP"]) * 2]
    inputs = [torch.randn(8, 12) for _ in models]
    expected = [losses(i) for i in range(len(models))]
    with ThreadPoolExecutor(len(models)) as pool:
        assert list(pool.map(losses, range(len(models)))) == expected
