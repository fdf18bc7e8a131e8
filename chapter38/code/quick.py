"""A shared pass on a CPU, as quick as may be: linear layers by oneDNN, and memory that is kept between layers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# glibc gives freed memory back to the system at once, which clears it anew for the next layer, until it has seen one
# block of nearly 32 MB freed (its DEFAULT_MMAP_THRESHOLD_MAX, see mallopt(3)); then it keeps 64 MB.
NEARLY_32_MB = 2**25 - 2**16


class _OneDNN(TorchFunctionMode):
    """Inside it, `linear` in float32 on a CPU is one call of the kernel that torch.compile would choose."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.nn.functional.linear and not (types or kwargs or torch.is_grad_enabled()):
            x, weight, bias = (*args, None)[:3]
            if x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu":
                return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return func(*args, **(kwargs or {}))


@contextmanager
def quick() -> Iterator[None]:
    """A context for a pass without gradients. Results differ in the last bits, for linear layers take oneDNN's kernel:
    on an AMD processor MKL takes twice its time. Where this build of torch has no MKL or no such kernel, they stay.
    """
    torch.empty(NEARLY_32_MB, dtype=torch.uint8)
    there = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    with _OneDNN() if there and hasattr(torch.ops.mkldnn, "_linear_pointwise") else nullcontext():
        yield
