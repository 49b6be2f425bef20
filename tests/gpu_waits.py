"""How often a program would wait for a GPU, counted on any device."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operations after which a program on a GPU has to wait for its answer: it needs a number, or how many rows there are.
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "_unique2", "nms"}


class Waits(TorchDispatchMode):
    """Counts them, whatever the device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.partition("::")[2]
        masks = args[1] if name in ("index", "index_put_") else ()
        self.count += name in WAITS or any(m is not None and m.dtype == torch.bool for m in masks)
        return function(*args, **(kwargs or {}))
