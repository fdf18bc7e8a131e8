"""The registry of models, and the one door to their weights: nothing else calls `from_pretrained`."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chapter38.code import memory
from chapter38.errors import ModelError, nearest
from chapter38.recipe import models as registry

if TYPE_CHECKING:
    import torch

    from chapter38.code.parts import Parts

SEAL = "sha256.json"  # beside a model's folders: file -> SHA-256
_PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl"}
__all__ = ["SEAL", "checksums", "load", "registry", "seal", "where"]


def load(
    name: str,
    *,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | None" = None,
    vae: str | None = None,
) -> "Parts":
    """Load a model by its name in the registry, its Hub id, or its folder, and take it apart.

    device None: CUDA or MPS where there is one, else the CPU; dtype None: the registry's there, float32 on the CPU.
    `vae` swaps the autoencoder for another one. Raises ModelError where weights are unknown, absent, corrupt, gated or
    too large for this machine; it says what to do.
    """
    import torch

    from chapter38.code.parts import Parts

    device = torch.device(device or memory.device())
    _known_to_diffusers(name)
    dtype = dtype or (torch.float32 if device.type == "cpu" else _dtype(name))
    folder, revision = _fetched(name)
    weights = {file: digest for file, digest in checksums(folder).items() if "/" in file}
    memory.require(name, sum((folder / file).stat().st_size for file in weights), device)
    extra = {"vae": _vae(vae, dtype)} if vae else {}
    pipeline = _open(name, lambda: _pipeline(folder, dtype, extra))
    for part in filter(None, (getattr(pipeline, part, None) for part in ("vae", "unet", "transformer"))):
        if part.dtype != dtype:
            raise ModelError(f"{name}: asked for {dtype}, its weights arrived as {part.dtype}; update diffusers")
    pipeline.set_progress_bar_config(disable=True)
    return Parts(pipeline.to(device), name=name, revision=revision, weights=weights)


def load_controlnet(source: str, device: "torch.device", dtype: "torch.dtype") -> Any:
    """A ControlNet in Diffusers layout, by its folder or Hub id. Raises ModelError as `load` does."""
    from diffusers import ControlNetModel

    if Path(source).is_dir():
        checksums(Path(source))
    net = _open(source, lambda: ControlNetModel.from_pretrained(source, **_safely(dtype)))
    return net.to(device).eval()


def where(name: str) -> str:
    """The folder or Hub id that `name` stands for. Raises ModelError for a name that is neither."""
    if name in registry():
        return str(bundled(name) or registry()[name]["hub"])
    if Path(name).is_file():
        raise ModelError(f"{name}: is a file; expected a folder in Diffusers layout (one that holds model_index.json)")
    if Path(name).is_dir():
        if not (Path(name) / "model_index.json").is_file():
            raise ModelError(f"{name}: holds no model_index.json; expected a folder in Diffusers layout")
        return name
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return name
    raise ModelError(f"unknown model {name!r}; {nearest(name, registry())}; a Hub id (owner/name) or a folder works too")


def seal(folder: "os.PathLike[str] | str") -> Path:
    """Write the SHA-256 of every weight file under `folder` into `sha256.json` there; `load` then checks them."""
    folder = Path(folder)
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in _own(folder) if path.suffix == ".safetensors"}
    target = folder / SEAL
    target.write_text(json.dumps(sums, indent=1) + "\n", "utf-8")
    return target


def checksums(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of every weight file of a model's folder, held against its seal where it has one.

    Raises ModelError on a file that is missing, differs from the seal, is truncated, or is a pickle.
    """
    sealed: dict[str, str] = json.loads((folder / SEAL).read_text("utf-8")) if (folder / SEAL).is_file() else {}
    found = {}
    for path in _own(folder):
        file = path.relative_to(folder).as_posix()
        if path.suffix in _PICKLES and not any(path.parent.glob("*.safetensors")):
            raise ModelError(f"{file}: is a pickle, which can run code when it is opened; expected .safetensors")
        if path.suffix == ".safetensors":
            found[file] = sha256(path)
    for file, digest in sealed.items():
        if file not in found:
            raise ModelError(f"{folder.name}: the weight file {file} is missing")
        if found[file] != digest:
            raise ModelError(
                f"{file}: SHA-256 is {found[file][:12]}…, expected {digest[:12]}…; the file is damaged or not what shipped"
            )
    return found


def _own(folder: Path) -> list[Path]:
    """A model's files, without the adapters that are kept beside it: those have their own cards and checks."""
    beside = lambda path: path.relative_to(folder).parts[0].startswith(("loras", "controlnet-"))  # noqa: E731
    return sorted(path for path in folder.rglob("*") if not beside(path))


def bundled(name: str) -> Path | None:
    """The folder of a model that ships with the package, or None."""
    folder: str | None = registry()[name].get("folder")
    return Path(__file__).parent.parent / folder if folder else None


def _safely(dtype: Any) -> dict[str, Any]:
    """`torch_dtype` is the spelling that every Diffusers since 0.39 obeys; safetensors only; no remote code."""
    return {"torch_dtype": dtype, "use_safetensors": True}


def _known_to_diffusers(name: str) -> None:
    """Raise before any download where this release of Diffusers lacks the model's pipeline."""
    import diffusers

    kind = registry().get(name, {}).get("pipeline")
    with _quietly():
        known = not kind or hasattr(diffusers, kind)
    if not known:
        raise ModelError(f"{name}: diffusers {diffusers.__version__} has no {kind}; run: pip install -U diffusers")


def _fetched(name: str) -> tuple[Path, str | None]:
    """(folder that holds the model, its revision): the folder itself, or the Hub's snapshot, downloaded if need be."""
    source = where(name)
    if Path(source).is_dir():
        return Path(source), None
    return _open(name, lambda: _snapshot(source, registry().get(name, {}).get("revision")))  # type: ignore[no-any-return]


def _snapshot(source: str, revision: str | None) -> tuple[Path, str]:
    from diffusers import DiffusionPipeline

    folder = Path(DiffusionPipeline.download(source, revision=revision, use_safetensors=True, trust_remote_code=False))
    return folder, folder.name


def _pipeline(folder: Path, dtype: Any, extra: dict[str, Any]) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, **_safely(dtype), **extra)


def _vae(name: str, dtype: Any) -> Any:
    from diffusers import AutoencoderKL

    if Path(name).is_dir() and (Path(name) / "config.json").is_file():
        checksums(Path(name))
        return _open(name, lambda: AutoencoderKL.from_pretrained(name, **_safely(dtype)))
    folder, _ = _fetched(name)
    return _open(name, lambda: AutoencoderKL.from_pretrained(folder, subfolder="vae", **_safely(dtype)))


_ADVICE = {  # what the libraries raise -> what to do; the first that fits
    "GatedRepoError": "is gated: accept its licence at https://huggingface.co/{hub}, then run `hf auth login`",
    "RepositoryNotFoundError": "there is no such repository on the Hub, or it is private; check the id",
    "RevisionNotFoundError": "the Hub has no such revision of it",
    "LocalEntryNotFoundError": "is not in the local cache and the Hub cannot be reached; connect once, or name a folder",
    "OfflineModeIsEnabled": "is not in the local cache and HF_HUB_OFFLINE is set; connect once, or name a folder",
    "ConnectError": "is not in the local cache and the Hub cannot be reached; connect once, or name a folder",
    "ConnectionError": "is not in the local cache and the Hub cannot be reached; connect once, or name a folder",
    "OutOfMemoryError": "does not fit into this device's memory; try float16, a smaller model, or offloading",
    "MemoryError": "does not fit into memory; try float16, a smaller model, or offloading",
    "SafetensorError": "a weight file is truncated or corrupt ({detail}); fetch it again",
}


def _open(name: str, read: Any) -> Any:
    """Run `read` without its progress bars; turn what it raises into one sentence that says what to do."""
    try:
        with _quietly():
            return read()
    except ModelError:
        raise
    except Exception as error:  # the libraries raise nearly anything on a broken file
        hub = registry().get(name, {}).get("hub") or name
        text = _first_line(error)
        for cause in _causes(error):
            if kind := next((k for c in type(cause).__mro__ for k in _ADVICE if c.__name__ == k), None):
                raise ModelError(f"{name}: {_ADVICE[kind].format(hub=hub, detail=_first_line(cause))}") from error
        raise ModelError(f"{name}: cannot be loaded ({text})") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def _quietly() -> Iterator[None]:
    """No bars, no advice on optional parts, no reminder that `torch_dtype` has a newer spelling (older ones need it)."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    logs = [log for log in (diffusers_log, transformers_log) if log.is_progress_bar_enabled()]
    for log in logs:
        log.disable_progress_bar()
    loud = transformers_log.get_verbosity()
    transformers_log.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch_dtype.*")
            yield
    finally:
        transformers_log.set_verbosity(loud)
        for log in logs:
            log.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, registry().get(name, {}).get("dtype") or "float16")


def sha256(path: Path) -> str:
    """Hashed once a process; the Hub's cache already names large files by their SHA-256."""
    if len(path.resolve().name) == 64:
        return path.resolve().name
    stat = path.stat()
    return _hash(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@cache
def _hash(path: str, size: int, mtime: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
