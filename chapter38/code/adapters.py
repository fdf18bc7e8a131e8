"""LoRAs on a loaded model: attached through PEFT, or merged into the weights; stacked, weighed, and taken off without a trace."""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from chapter38.code import lorafile, models
from chapter38.code.examine import card
from chapter38.code.lorafile import Lora, Low
from chapter38.code.parts import Parts
from chapter38.code.shapes import Base
from chapter38.code.weightfile import Tensor
from chapter38.errors import AdapterError, ModelError, nearest
from chapter38.recipe import Adapter

FILE = "pytorch_lora_weights.safetensors"  # the name Diffusers gives it
_HALF, _FULL = ("F16", torch.float16), ("F32", torch.float32)


@dataclass
class Attached:
    """What these parts carry: adapter -> weight in order, and the weights that a merge overwrote, to give back."""

    weights: dict[str, float] = field(default_factory=dict)
    ours: set[str] = field(default_factory=set)
    kept: dict[torch.nn.Parameter, torch.Tensor] = field(default_factory=dict)


def attach(parts: Parts, adapters: Iterable[Adapter | str | tuple[str, float]]) -> None:
    """Make exactly these LoRAs act on `parts`, through PEFT, each at its weight; none at all gives the base back, bit for bit.

    A name is one of the model's own (`available`), a file, a folder, a Hub id, or the name of an adapter that is already
    on the parts (one in training). The same one twice counts twice. Weight 0 is left out. What is already there stays, so
    a second call costs nothing. Raises AdapterError where a file cannot be used, and says why.
    """
    wanted = _weighed(parts, adapters)
    state = _state(parts)
    if list(state.weights.items()) == list(wanted.items()) and _present(parts) <= state.ours:
        return
    _give_back(state)
    for name in state.ours - set(wanted):
        _remove(parts, name)
    for name in wanted:
        if name not in state.ours and name not in _present(parts):
            _inject(parts, name, lorafile.load(_PATHS[name], base_of(parts)))
            state.ours.add(name)
    for module in _layers(parts):
        here = [name for name in wanted if name in module.lora_A]
        module.enable_adapters(bool(here))
        if here:
            module.set_adapter(here)
            for name in here:
                module.set_scale(name, wanted[name])
    state.weights = wanted
    _tidy(parts)


def merge(parts: Parts, adapters: Iterable[Adapter | str | tuple[str, float]]) -> None:
    """Add these LoRAs into the weights themselves: drawing then costs what the base costs.

    Differs from `attach` by rounding only. `detach`, or drawing a recipe with other adapters, gives the base back bit for bit:
    the weights that were overwritten are kept.
    """
    detach(parts)
    wanted, state, base = _weighed(parts, adapters), _state(parts), base_of(parts)
    if loose := [name for name in wanted if name not in _PATHS]:
        raise AdapterError(f"{loose[0]!r} is attached but in no file; save it, then merge the file")
    for name, weight in wanted.items():
        for (component, module), low in lorafile.load(_PATHS[name], base).items():
            parameter = _component(parts, component).get_submodule(_real(parts, component, module)).weight
            state.kept.setdefault(parameter, parameter.detach().clone())
            delta = torch.from_numpy(low.delta()).to(parameter.device)
            parameter.data.copy_((parameter.float() + weight * delta).to(parameter.dtype))
    state.weights = wanted


def detach(parts: Parts) -> None:
    """Take every LoRA off again: weights, modules and names are the base's, bit for bit. (Those in training only fall silent.)"""
    attach(parts, ())


def save(parts: Parts, name: str, folder: "os.PathLike[str] | str", *, half: bool = True) -> Path:
    """Write the attached adapter `name` into `folder` as Diffusers saves it, alpha included; float16 unless `half` is off."""
    spelled, dtype = _HALF if half else _FULL
    lora: Lora = {}
    for component in _components(parts):
        for path, module in _component(parts, component).named_modules():
            if name in getattr(module, "lora_A", {}):
                raw = [getattr(module, half_)[name].weight.detach().to("cpu", dtype) for half_ in ("lora_A", "lora_B")]
                down, up = (Tensor(spelled, tuple(t.shape), t.contiguous().numpy().tobytes()) for t in raw)
                lora[component, path.removeprefix("text_model.")] = Low(down, up, float(module.lora_alpha[name]))
    if not lora:
        raise AdapterError(f"no adapter called {name!r} is attached; {nearest(name, sorted(_present(parts)) or ['(none)'])}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return lorafile.save(lora, Path(folder) / FILE, "peft", base_of(parts))


def discard(parts: Parts, name: str) -> None:
    """Delete an adapter that was trained or loaded under `name`."""
    _remove(parts, name)
    _state(parts).weights.pop(name, None)
    _tidy(parts)


def available(model: str = "postcards") -> list[str]:
    """The LoRAs that ship with a model, by name."""
    return sorted(path.parent.name for path in _shelf(model).glob(f"*/{FILE}"))


def find(name: str, model: str = "postcards") -> Path:
    """The file of a LoRA: one that ships with the model, a file, a folder, or `owner/name[/file]` on the Hub.

    Raises AdapterError for a name that is none of these.
    """
    for path in (_shelf(model) / name / FILE, Path(name) / FILE, Path(name)):
        if path.is_file():
            return path
    if name.count("/") in (1, 2) and not name.startswith((".", "/")) and Path(name).suffix != ".json":
        return _download(*name.split("/", 2))
    shipped = nearest(name, available(model)) if available(model) else f"none ship with {model};"
    raise AdapterError(f"unknown LoRA {name!r}; {shipped} a file, a folder or a Hub id works too")


def base_of(parts: Parts) -> Base:
    """The modules of a loaded model. Raises AdapterError for a denoiser that is not a U-Net."""
    if not hasattr(parts.pipeline, "unet"):
        raise AdapterError(
            f"{parts.name}: LoRAs are handled for U-Nets; this model's denoiser is a {type(parts.denoiser).__name__}"
        )
    configs = {name: _component(parts, name).config for name in _components(parts)}
    return Base.of(parts.name, {name: config if name == "unet" else config.to_dict() for name, config in configs.items()})


def files(parts: Parts) -> dict[str, str]:
    """File -> SHA-256 of the LoRAs that act on the parts now, for a receipt."""
    paths = {name: _PATHS[name] for name in _state(parts).weights if name in _PATHS}
    return {f"{path.parent.name}/{path.name}" if path.name == FILE else path.name: name for name, path in paths.items()}


def wake(parts: Parts, name: str) -> None:
    """Make the adapter `name`, and no other, act at weight 1 and learn: drawing in the middle of a training silences it."""
    for module in _layers(parts):
        if name in module.lora_A:
            module.enable_adapters(True)
            module.set_adapter([name])
            module.set_scale(name, 1.0)


_PATHS: dict[str, Path] = {}  # SHA-256 of a LoRA file -> where it lies


def _weighed(parts: Parts, adapters: Iterable[Adapter | str | tuple[str, float]]) -> dict[str, float]:
    """PEFT's name (the file's SHA-256) -> weight, in order, zero weights left out."""
    wanted: dict[str, float] = {}
    for entry in adapters:
        name, weight = (
            (entry.name, entry.weight) if isinstance(entry, Adapter) else (entry, 1.0) if isinstance(entry, str) else entry
        )
        if name not in _present(parts) or name in _PATHS:
            path = find(name, parts.name)
            name = models.sha256(path)
            if card(path.parent).get("sha256", {}).get(path.name, name) != name:
                raise AdapterError(f"{path.parent.name}/{path.name}: its SHA-256 is not the one on its card")
            _PATHS[name] = path
        wanted[name] = wanted.get(name, 0.0) + weight
    return {name: weight for name, weight in wanted.items() if weight}


def _inject(parts: Parts, name: str, lora: Lora) -> None:
    """Put a LoRA's A and B beside the modules it changes, through PEFT."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    for component in dict.fromkeys(component for component, _ in lora):
        model = _component(parts, component)
        tensors: dict[str, torch.Tensor] = {}
        for (where, module), low in lora.items():
            if where == component:
                real = _real(parts, component, module)
                tensors |= {f"{real}.lora_A.weight": _torch(low.down), f"{real}.lora_B.weight": _torch(low.up)}
        targets = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")]
        config = LoraConfig(**lorafile.peft_config(lora, component) | {"target_modules": targets})
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # "already found a peft_config": a second LoRA
            inject_adapter_in_model(config, model, adapter_name=name, state_dict=tensors)
        set_peft_model_state_dict(model, tensors, name)
        if component == "unet":
            model._hf_peft_config_loaded = True


def _torch(tensor: Tensor) -> torch.Tensor:
    return torch.from_numpy(tensor.numpy().copy())


def _remove(parts: Parts, name: str) -> None:
    for component in _components(parts):
        model = _component(parts, component)
        for module in _of(model):
            if name in module.lora_A:
                module.delete_adapter(name)
        getattr(model, "peft_config", {}).pop(name, None)
    _state(parts).ours.discard(name)


def _tidy(parts: Parts) -> None:
    """Unwrap the modules of a component that carries no adapter any more."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers

    for component in _components(parts):
        model = _component(parts, component)
        if getattr(model, "peft_config", None) == {}:
            recurse_remove_peft_layers(model)  # type: ignore[no-untyped-call]
            del model.peft_config
            model._hf_peft_config_loaded = False


def _give_back(state: Attached) -> None:
    for parameter, original in state.kept.items():
        parameter.data.copy_(original)
    state.kept.clear()


def _state(parts: Parts) -> Attached:
    if parts.attached is None:
        parts.attached = Attached()
    return parts.attached  # type: ignore[no-any-return]


def _components(parts: Parts) -> list[str]:
    return [c for c in ("unet", "text_encoder", "text_encoder_2") if getattr(parts.pipeline, c, None) is not None]


def _component(parts: Parts, name: str) -> Any:
    return getattr(parts.pipeline, name)


def _real(parts: Parts, component: str, module: str) -> str:
    """The module's name in the loaded model: older Transformers keep CLIP's layers one level down."""
    return f"text_model.{module}" if component != "unet" and hasattr(_component(parts, component), "text_model") else module


def _of(model: Any) -> Iterator[Any]:
    from peft.tuners.lora import LoraLayer

    return (module for module in model.modules() if isinstance(module, LoraLayer))


def _layers(parts: Parts) -> Iterator[Any]:
    return (layer for component in _components(parts) for layer in _of(_component(parts, component)))


def _present(parts: Parts) -> set[str]:
    """Names of the adapters that the parts carry, active or not."""
    return {name for component in _components(parts) for name in getattr(_component(parts, component), "peft_config", {})}


def _shelf(model: str) -> Path:
    try:
        return Path(models.where(model)) / "loras"
    except ModelError:
        return Path(model) / "loras"


def _download(owner: str, name: str, file: str = FILE) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(f"{owner}/{name}", file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise AdapterError(
            f"{owner}/{name}/{file}: not on this machine, and not to be had from the Hub ({str(error)[:120]})"
        ) from None
