"""Public names that import their module on first use (PEP 562), also where a function is called like its module."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A package in which `draw` is the function `draw.draw`, although importing the module `draw` sets the name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and self.__dict__.get("_home", {}).get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


def lazy(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`: public name -> the module below it that defines it.

    In a package's `__init__.py`: `__getattr__ = lazy(__name__, {"draw": "draw", "load": "models"})`.
    """
    module = sys.modules[package]
    module._home = dict(home)  # type: ignore[attr-defined]
    module.__class__ = _Room

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(module, name, value)
        return value

    return find
