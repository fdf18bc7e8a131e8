"""Muon for matrices and convolution kernels, Adam for the rest.

The update of Jordan et al. (2024): momentum, orthogonalised by five Newton–Schulz steps, scaled so that its
RMS matches AdamW's (Liu et al. 2025, arXiv:2502.16982, eq. 4). torch.optim.Muon takes two-dimensional
parameters only and one at a time; a U-Net is convolutions, and on a CPU equal shapes in one batch are faster.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """g: (B, M, N) -> the same shape, singular values drawn towards 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.size(-2) > g.size(-1)
    x = g.mT if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """`by_adam`: parts of names whose parameters go to Adam though they are matrices (embeddings, ends)."""

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], lr: float, by_adam: tuple[str, ...] = (), decay: float = 0.0
    ) -> None:
        named = [(n, p) for n, p in named if p.requires_grad]
        matrices = [p for n, p in named if p.ndim >= 2 and not any(part in n for part in by_adam)]
        taken = set(map(id, matrices))
        rest = [p for _, p in named if id(p) not in taken]
        super().__init__([{"params": matrices, "muon": True}, {"params": rest, "muon": False}], {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            (self._matrices if group["muon"] else self._adam)(params, group["lr"], group["decay"])

    def _matrices(self, params: list[nn.Parameter], lr: float, decay: float, momentum: float = 0.95) -> None:
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
        for p in params:
            by_shape.setdefault((p.shape[0], p[0].numel()), []).append(p)
        for shape, same in by_shape.items():
            updates = []
            for p in same:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - momentum)
                updates.append(p.grad.lerp(mean, momentum).reshape(shape))  # type: ignore[union-attr]
            steps = orthogonalise(torch.stack(updates)) * (0.2 * max(shape) ** 0.5)
            for p, step in zip(same, steps, strict=True):
                p.mul_(1 - lr * decay).add_(step.reshape(p.shape), alpha=-lr)

    def _adam(self, params: list[nn.Parameter], lr: float, decay: float, betas: tuple[float, float] = (0.9, 0.98)) -> None:
        for p in params:
            state = self.state[p]
            if not state:
                state.update(mean=torch.zeros_like(p), square=torch.zeros_like(p), n=0)
            state["n"] += 1
            state["mean"].lerp_(p.grad, 1 - betas[0])
            state["square"].lerp_(p.grad**2, 1 - betas[1])  # type: ignore[operator]
            mean = state["mean"] / (1 - betas[0] ** state["n"])
            p.addcdiv_(mean, (state["square"] / (1 - betas[1] ** state["n"])).sqrt().add_(1e-8), value=-lr)
