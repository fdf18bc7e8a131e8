"""The doctor: what this machine can run, what is missing, how long a picture takes, what differs from a lock."""

import platform
from importlib import metadata, util
from pathlib import Path
from typing import Any

from chapter38.code.models import bundled, checksums, registry
from chapter38.errors import Chapter38Error
from chapter38.picture import Lock
from chapter38.recipe import denoiser_bytes

GIB = 2**30
PARTS = {  # what it is for -> (extra, modules)
    "drawing with Diffusers": ("code", ("torch", "diffusers", "transformers", "peft", "accelerate", "torchsde")),
    "hosted models": ("call", ("fastapi", "uvicorn", "tenacity", "openai", "replicate", "fal_client")),
    "notebooks": ("notebooks", ("matplotlib", "ipywidgets")),
    "the site": ("book", ("jupyter_book", "jupytext")),
    "many machines": ("scale", ("ray",)),
}  # fmt: skip
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "numpy", "pillow")


def examine_machine() -> dict[str, Any]:
    """System, memory, accelerator, versions, missing parts, and which models of the registry fit."""
    import psutil

    memory = psutil.virtual_memory()
    device, left = "cpu", int(memory.available)
    if not missing_of("code"):
        from chapter38.code.memory import device as best
        from chapter38.code.memory import free

        device = best()
        left = free(device)
    return {
        "python": platform.python_version(), "system": platform.platform(), "cores": psutil.cpu_count(),
        "memory_gib": round(memory.total / GIB, 1), "memory_free_gib": round(memory.available / GIB, 1),
        "device": device, "device_free_gib": round(left / GIB, 1), "versions": versions(), "missing": missing(),
        "models": [fits(name, left, device) for name in registry()],
    }  # fmt: skip


def versions() -> dict[str, str | None]:
    """Library -> version; None where it is not installed."""
    return {name: _version(name) for name in LIBRARIES}


def missing() -> dict[str, str]:
    """What a part of the package is for -> the command that installs what it lacks here."""
    return {what: f"pip install 'chapter38[{extra}]'" for what, (extra, _) in PARTS.items() if missing_of(extra)}


def missing_of(extra: str) -> list[str]:
    """Modules of an extra that are not installed."""
    return [m for e, modules in PARTS.values() if e == extra for m in modules if util.find_spec(m) is None]


def fits(name: str, free: int, device: str) -> dict[str, Any]:
    """Whether a model's denoiser alone fits into `free` bytes; a documented need counts before the estimate."""
    row = registry()[name]
    if device == "cpu":
        needs = denoiser_bytes(name, "float32")
    else:
        needs = row["memory_gb"] * 1e9 if row["memory_gb"] else denoiser_bytes(name)
    verdict = None if not needs else bool(needs < free)
    return {
        "model": name, "tier": row["tier"], "licence": row["licence"], "gated": row["gated"], "fits": verdict,
        "needs_gib": round(needs / GIB, 1) if needs else None, "here": bool(bundled(name)) or _cached(row["hub"]),
    }  # fmt: skip


def time_of_one_picture() -> dict[str, float]:
    """Seconds to a first postcard in this process, loading included, and to the next one."""
    from time import perf_counter

    from chapter38.code.draw import draw
    from chapter38.recipe import Recipe

    began = perf_counter()
    recipe = Recipe(prompt="a small red sailboat on the left, on the sea, at sunset", seed=38)
    draw(recipe)
    first = perf_counter() - began
    began = perf_counter()
    draw(recipe)
    return {"first": round(first, 2), "next": round(perf_counter() - began, 2)}


def differences(lock: Lock) -> list[str]:
    """What here differs from what drew a picture, in words; empty: the same recipe gives the same bytes."""
    found = []
    for library, version in lock.versions.items():
        here = platform.python_version() if library == "python" else _version(library)
        if here != version:
            found.append(f"{library}: {version} drew it, here is {here or 'none'}")
    if lock.model not in registry():
        return [*found, f"model {lock.model}: not in the registry, so its weights cannot be compared"]
    folder = bundled(lock.model) or _snapshot(registry()[lock.model]["hub"], lock.revision)
    if folder is None:
        return [*found, f"model {lock.model}: its weights are not here"]
    try:
        weights = checksums(folder)
    except Chapter38Error as error:
        return [*found, str(error)]
    for extra in sorted(path.parent for pattern in ("loras/*/*", "controlnet-*/*") for path in folder.glob(pattern)):
        weights |= {f"{extra.name}/{file}": digest for file, digest in checksums(extra).items()}
    for file, digest in lock.weights.items():
        if file not in weights:
            found.append(f"{file}: is not here")
        elif weights[file] != digest:
            found.append(f"{file}: {digest[:12]}… drew it, here is {weights[file][:12]}…")
    return found


def _version(library: str) -> str | None:
    if library == "chapter38":
        from chapter38 import __version__

        return __version__
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _cached(hub: str | None) -> bool:
    return hub is not None and _snapshot(hub, None) is not None


def _snapshot(hub: str, revision: str | None) -> Path | None:
    """The Hub's snapshot in the local cache, or None; looks at files only."""
    from os import environ

    home = Path(environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(environ.get("HF_HUB_CACHE", home / "hub")) / f"models--{hub.replace('/', '--')}" / "snapshots"
    found = sorted(cache.glob(revision or "*"))
    return found[-1] if found else None
