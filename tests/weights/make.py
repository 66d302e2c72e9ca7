"""Writes the weight files of this folder: python3 make.py, with torch and safetensors installed.

They are what torch.save really writes, and `expected.safetensors` is what is in them.
"""

import argparse
import collections
import os

import torch
from safetensors.torch import save_file


class Hostile:
    """Runs a command in whatever unpickles it."""

    def __reduce__(self):
        return os.system, ("touch hostile-was-here",)


torch.manual_seed(0)
grid = torch.randn(6, 4)
state = collections.OrderedDict(
    {
        "backbone.parameter": torch.nn.Parameter(torch.randn(3, 2)),
        "backbone.transposed": grid.t(),
        "backbone.strided": grid[1:5:2, 1:],
        "backbone.channels_last": torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last),
        "backbone.repeated": torch.tensor([2.5]).expand(3),
        "encoder.half": torch.randn(5).half(),
        "encoder.bfloat": torch.randn(5).bfloat16(),
        "encoder.double": torch.randn(5).double(),
        "decoder.int64": torch.arange(-2, 3),
        "decoder.int32": torch.arange(5, dtype=torch.int32),
        "decoder.uint8": torch.arange(5, dtype=torch.uint8),
        "decoder.bool": torch.tensor([[True], [False]]),
        "decoder.scalar": torch.tensor(7),
        "decoder.empty": torch.zeros(0, 3),
    }
)
expected = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
save_file(expected, "expected.safetensors")
torch.save(state, "plain.pth")
torch.save(state, "protocol4.pth", pickle_protocol=4)
torch.save(state, "legacy.pth", _use_new_zipfile_serialization=False)
torch.save({"model": state, "x": Hostile()}, "hostile.pth")

bare = {name.replace("backbone", "stem").replace("encoder", "stages"): t for name, t in state.items()}
bare = {name: tensor for name, tensor in bare.items() if not name.startswith("decoder")}
torch.save(bare, "backbone.pth", _use_new_zipfile_serialization=False)

layer = torch.nn.Linear(3, 2)
optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
layer(torch.ones(1, 3)).sum().backward()
optimizer.step()
weights = collections.OrderedDict(
    (f"module.decoder.head.{name}", tensor) for name, tensor in layer.state_dict().items()
)
torch.save(
    {
        "date": "2025-01-01T00:00:00",
        "last_epoch": 11,
        "model": weights,
        "criterion": {},
        "ema": {"module": state, "updates": 120},
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-3),
    },
    "training.pth",
)
