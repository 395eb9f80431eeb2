"""Train a classifier of handwritten digits on every device, with the loop written out.

python examples/digits.py [--quick]
"""

import sys

import vibetensor.torch as torch
from vibetensor import fabric, set_cpu_devices
from vibetensor.examples import digits
from vibetensor.parallel import DataParallel, Trainer
from vibetensor.torch import nn
from vibetensor.torch.utils import data

if not torch.cuda.is_available():
    set_cpu_devices(4)  # a machine without GPUs has as many devices as you like
torch.manual_seed(0)

images, classes, test_images, test_classes = digits.load()
loader = data.DataLoader(data.TensorDataset(images, classes), batch_size=128, shuffle=True)

net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
model = DataParallel(net, fabric.mesh())  # one replica a device
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), clip=1.0)

for epoch in range(2 if "--quick" in sys.argv else 40):
    for batch in loader:
        metrics = trainer.step(batch)  # split, forward, backward + reduction, clip, update
    print(f"epoch {epoch}: loss {metrics.loss:.4f}")

with torch.no_grad():
    guesses = model.eval()(test_images).argmax(-1).cpu()
print(f"test accuracy {(guesses == test_classes).float().mean().item():.2%}")
