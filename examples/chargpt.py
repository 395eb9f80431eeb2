"""Train a small GPT on a text with `fit`: progress bar, metrics, plot, checkpoints, Ctrl-C, resume.

python examples/chargpt.py [--quick] [FILE]
Started again after Ctrl-C, or after a crash, it goes on where it was.
"""

import sys

import vibetensor.torch as torch
from vibetensor import fabric, set_cpu_devices
from vibetensor.examples import gpt, text
from vibetensor.parallel import DataParallel, Trainer

quick = "--quick" in sys.argv
files = [arg for arg in sys.argv[1:] if not arg.startswith("-")]

if not torch.cuda.is_available():
    set_cpu_devices(4)
torch.manual_seed(0)

corpus = text.read(files[0] if files else None)
vocabulary = text.Vocabulary(corpus)
windows = text.Windows(vocabulary.encode(corpus), context=64, batch=16, seed=0)

net = gpt.GPT(len(vocabulary), context=64, width=128, heads=4, layers=2)
model = DataParallel(net, fabric.mesh())
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
trainer = Trainer(
    model, optimizer, gpt.loss, clip=1.0, precision="bf16" if torch.cuda.is_available() else "fp32"
)

result = trainer.fit(
    windows,
    steps=5 if quick else 500,
    out="runs/chargpt-script",
    checkpoint_every=100,
    resume=True,
    unit="tokens",
    units_per_sample=64,
)
print(f"step {result.steps}: loss {result.loss}, {result.rate:.0f} tokens a second")
print(vocabulary.decode(gpt.generate(net, vocabulary.encode("def ").tolist(), 200)))
