"""What fits where: the memory a model needs, the memory there is, and how to make do with less."""

import os
import sys
from typing import TYPE_CHECKING, Any

from chapter38.errors import ModelError

if TYPE_CHECKING:
    import torch

    from chapter38.code.parts import Parts

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 2**30


def device() -> str:
    """The best device of this machine: "cuda", "mps" or "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def free(on: "torch.device | str" = "cpu") -> int:
    """Bytes that a device has left; MPS shares the machine's."""
    import psutil
    import torch

    if torch.device(on).type == "cuda":
        return int(torch.cuda.mem_get_info(on)[0])
    return int(psutil.virtual_memory().available)


def require(name: str, on_disk: int, on: "torch.device | str") -> None:
    """Raise ModelError before loading where the weights alone are larger than the memory left."""
    if on_disk > (left := free(on)):
        raise ModelError(
            f"{name}: its weights take {on_disk / GIB:.1f} GiB, {torch_name(on)} has {left / GIB:.1f} GiB left; "
            "take a smaller model or a larger machine"
        )


def torch_name(on: "torch.device | str") -> str:
    """The device's name as a person knows it."""
    import torch

    where = torch.device(on)
    return torch.cuda.get_device_name(where) if where.type == "cuda" else f"this machine's {where.type.upper()}"


def weight_bytes(parts: "Parts") -> dict[str, int]:
    """Component -> bytes of its weights, as loaded."""
    import torch

    modules = {n: m for n, m in parts.pipeline.components.items() if isinstance(m, torch.nn.Module)}
    return {n: sum(p.numel() * p.element_size() for p in m.parameters()) for n, m in modules.items()}


def estimate(parameters: int, dtype: str = "float16") -> int:
    """Bytes of so many parameters: a lower bound of what drawing needs, without activations.

    >>> round(estimate(859_520_964, "float16") / 2**30, 2)
    1.6
    """
    return parameters * BYTES[dtype]


def offload(parts: "Parts", *, onload: "torch.device | str | None" = None) -> None:
    """Keep the weights on the CPU and bring one group of layers at a time to `onload` (None: the best device).

    The pictures stay the same and are slower to come; it works from CPU to CPU too, where it only shows how.
    """
    import torch
    from diffusers.hooks import apply_group_offloading

    to = torch.device(onload or device())
    for module in parts.pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            apply_group_offloading(
                module, onload_device=to, offload_device=torch.device("cpu"), offload_type="leaf_level"
            )  # fmt: skip


def peak(on: "torch.device | str" = "cpu") -> int:
    """The most bytes so far: of the device where it keeps count, else resident memory of this process."""
    import torch

    if torch.device(on).type == "cuda":
        return int(torch.cuda.max_memory_allocated(on))
    if sys.platform == "win32":
        import psutil

        memory: Any = psutil.Process(os.getpid()).memory_info()
        return int(memory.peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
