"""Recipe: what to draw, as one frozen value that goes to JSON and comes back equal."""

import base64
import hashlib
import io
import json
import os
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from chapter38.errors import RecipeError, nearest

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "dpm_2", "uni_pc", "lms",
    "pndm", "deis", "lcm", "er_sde", "res_multistep", "flow_euler", "flow_heun",
)  # fmt: skip
SPACINGS = (
    "leading", "linspace", "trailing", "karras", "exponential",
    "normal", "simple", "sgm_uniform", "ddim_uniform", "beta", "linear_quadratic",
)  # fmt: skip
MAX_SEED = 2**64 - 1


@cache
def models() -> dict[str, dict[str, Any]]:
    """The registry `models.json`: short name -> hub id, licence, memory, and the defaults of a recipe."""
    return json.loads((files("chapter38") / "models.json").read_text("utf-8"))


def denoiser_bytes(model: str, dtype: str | None = None) -> int:
    """Bytes of a model's denoiser in memory, in `dtype` or in that of its registry row; 0 where its size is unknown."""
    row = models().get(model, {})
    return (row.get("parameters") or 0) * (4 if (dtype or row.get("dtype")) == "float32" else 2)


class Pixels:
    """A picture inside a recipe: PNG bytes, named by the SHA-256 of its size, mode and pixels.

    Accepts a PIL image, a path, PNG bytes, or the JSON form. Two equal pictures are equal Pixels whatever
    file they came from.
    """

    __slots__ = ("png", "sha256")
    png: bytes
    sha256: str

    def __init__(self, source: "Image.Image | os.PathLike[str] | str | bytes | Pixels") -> None:
        if isinstance(source, Pixels):
            self.png, self.sha256 = source.png, source.sha256
            return
        image = source if isinstance(source, Image.Image) else _open(source)
        image = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
        head = f"{image.mode}:{image.width}x{image.height}:".encode()
        self.sha256 = hashlib.sha256(head + image.tobytes()).hexdigest()
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        self.png = buffer.getvalue()

    @property
    def image(self) -> Image.Image:
        """The picture as a PIL image, in its own mode (L, RGB or RGBA)."""
        image = Image.open(io.BytesIO(self.png))
        image.load()
        return image

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pixels) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Pixels({self.sha256[:12]}…, {self.image.width}x{self.image.height})"

    def json(self) -> dict[str, str]:
        return {"sha256": self.sha256, "png": base64.b64encode(self.png).decode("ascii")}

    @classmethod
    def parse(cls, value: Any) -> "Pixels":
        if isinstance(value, dict):
            if set(value) != {"sha256", "png"}:
                raise ValueError("a picture in JSON has exactly 'sha256' and 'png' (base64)")
            try:
                pixels = cls(base64.b64decode(value["png"], validate=True))
            except (TypeError, ValueError) as error:
                raise ValueError(f"the picture's base64 PNG does not decode: {error}") from None
            if pixels.sha256 != value["sha256"]:
                raise ValueError("the picture's pixels do not have the SHA-256 that the recipe names")
            return pixels
        if hasattr(value, "image") and not isinstance(value, Pixels):  # a Picture
            value = value.image
        if isinstance(value, (Pixels, Image.Image, str, bytes, os.PathLike)):
            return cls(value)
        raise ValueError(f"expected a picture (PIL image, path, PNG bytes or its JSON), got {type(value).__name__}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            json_schema_input_schema=core_schema.dict_schema(core_schema.str_schema(), core_schema.str_schema()),
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls.json, return_schema=core_schema.dict_schema(core_schema.str_schema(), core_schema.str_schema())
            ),
        )


def _open(source: "os.PathLike[str] | str | bytes") -> Image.Image:
    try:
        # Bytes come with recipes from strangers: of all formats only PNG's reader meets them.
        image = Image.open(io.BytesIO(source), formats=("PNG",)) if isinstance(source, bytes) else Image.open(source)
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        what = "these bytes" if isinstance(source, bytes) else str(source)
        raise ValueError(f"{what}: not a readable picture ({error})") from None
    return image


def _exact_int(value: Any) -> Any:
    """Integers stay exact: a float or a bool in an integer's place is refused, a decimal string is read."""
    if isinstance(value, bool) or isinstance(value, float):
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


Int = Annotated[int, BeforeValidator(_exact_int)]
Weight = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Adapter(_Frozen):
    """A LoRA and how much of it: `name` in the registry or a file; `weight` 0 is off, 1 as trained."""

    name: str = Field(min_length=1)
    weight: Weight = 1.0


class Control(_Frozen):
    """A ControlNet and its hint map: active from `start` to `end`, as fractions of the steps."""

    kind: str = Field(min_length=1)
    image: Pixels
    strength: Weight = 1.0
    start: Unit = 0.0
    end: Unit = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> "Control":
        if self.start >= self.end:
            raise ValueError(f"start ({self.start}) must be smaller than end ({self.end})")
        return self


class Hires(_Frozen):
    """A second pass: the picture enlarged by `scale`, then redrawn at `strength` in `steps` (None: the recipe's)."""

    scale: float = Field(default=2.0, gt=1, le=8, allow_inf_nan=False)
    steps: Int | None = Field(default=None, ge=1, le=1000)
    strength: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)


class Recipe(_Frozen):
    """What to draw. Frozen, hashable, equal through JSON; fields left out take the model's own defaults.

    prompt, negative   text, any length (long prompts are chunked as ComfyUI does)
    prompt_syntax      "plain": parentheses mean themselves; "weighted": ComfyUI's (word:1.3)
    seed               0 … 2^64−1, exact
    steps              1 … 1000, counted as Diffusers counts
    guidance           classifier-free guidance scale, 0 … 100; 1 means no negative pass
    sampler, spacing   names from SAMPLERS and SPACINGS
    shift              timestep shift of flow-matching models, > 0, or None
    width, height      pixels, multiples of 8
    model, vae         a name in the registry, a Hub id, or a folder; vae None: the model's own
    hires              a second, larger pass
    adapters, control  LoRAs in order; ControlNets
    image, mask        picture to start from; white where it may change; strength 0 … 1 of the change
    references         pictures that an instruction edit works from
    clip_skip          last layers of the text encoder to leave out, 0 … 11

    >>> Recipe(prompt="a red boat", seed=38).steps
    20
    """

    prompt: str
    negative: str = ""
    prompt_syntax: Literal["plain", "weighted"] = "plain"
    seed: Int = Field(default=0, ge=0, le=MAX_SEED)
    steps: Int = Field(default=20, ge=1, le=1000)
    guidance: float = Field(default=4.0, ge=0, le=100, allow_inf_nan=False)
    sampler: str = "ddim"
    spacing: str = "trailing"
    shift: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)
    width: Int = Field(default=128, ge=8, le=16384)
    height: Int = Field(default=128, ge=8, le=16384)
    model: str = Field(default="postcards", min_length=1)
    vae: str | None = Field(default=None, min_length=1)
    hires: Hires | None = None
    adapters: tuple[Adapter, ...] = ()
    control: tuple[Control, ...] = ()
    image: Pixels | None = None
    mask: Pixels | None = None
    strength: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    references: tuple[Pixels, ...] = ()
    clip_skip: Int = Field(default=0, ge=0, le=11)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RecipeError(_teach(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _model_defaults(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        row = models().get(fields.get("model", "postcards"), models()["sd15"])
        return {**row["defaults"], **fields}

    @field_validator("adapters", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        """("name", 0.8) and "name" are short for Adapter(name=…, weight=…)."""
        if isinstance(value, (list, tuple)):
            pair = lambda a: {"name": a[0], "weight": a[1]} if isinstance(a, (list, tuple)) and len(a) == 2 else a  # noqa: E731
            return tuple({"name": a} if isinstance(a, str) else pair(a) for a in value)
        return value

    @field_validator("prompt", "negative")
    @classmethod
    def _real_text(cls, text: str) -> str:
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise ValueError("the text holds half a surrogate pair, which no file can carry; expected valid Unicode")
        return text

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name not in SAMPLERS:
            for spacing in SPACINGS:
                if (own := name.removesuffix(f"_{spacing}")) in SAMPLERS:
                    raise ValueError(f"unknown sampler {name!r}: it is two choices, sampler {own!r} and spacing {spacing!r}")
            raise ValueError(f"unknown sampler {name!r}; {nearest(name, SAMPLERS)}")
        return name

    @field_validator("spacing")
    @classmethod
    def _known_spacing(cls, name: str) -> str:
        if name not in SPACINGS:
            raise ValueError(f"unknown spacing {name!r}; {nearest(name, SPACINGS)}")
        return name

    @field_validator("width", "height")
    @classmethod
    def _by_eight(cls, size: int) -> int:
        if size % 8:
            raise ValueError(f"{size} is not a multiple of 8; the nearest are {size // 8 * 8} and {size // 8 * 8 + 8}")
        return size

    @model_validator(mode="after")
    def _belongs_together(self) -> "Recipe":
        if self.mask is not None and self.image is None:
            raise ValueError("mask needs image: the mask says which part of the image may change")
        if self.image is None and self.strength != 1:
            raise ValueError("strength needs image: without one the whole picture is drawn, at strength 1")
        return self

    def json(self, **kwargs: Any) -> str:  # type: ignore[override]
        """This recipe as one JSON object: `Recipe.from_json(r.json()) == r`."""
        return self.model_dump_json(**kwargs)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recipe":
        """The recipe that `json()` wrote. Raises RecipeError on anything else."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise RecipeError(f"a recipe is a JSON object, got {type(fields).__name__}")
        return cls(**fields)

    def but(self, **changes: Any) -> "Recipe":
        """The same recipe with some fields changed, checked anew: `r.but(seed=39)`."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    @property
    def key(self) -> str:
        """SHA-256 of the recipe's canonical JSON: the same for equal recipes on every machine."""
        canonical = json.dumps(json.loads(self.json()), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _teach(error: ValidationError) -> str:
    """Pydantic's report as lines a person can act on: field, what was expected, what came."""
    lines = []
    for item in error.errors(include_url=False):
        field = ".".join(map(str, item["loc"])) or "recipe"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"no such field; {nearest(field, Recipe.model_fields)}"
        elif not item["msg"].startswith("Value error") and item["type"] != "missing":
            message = f"{message}, got {item['input']!r:.80}"
        lines.append(f"{field}: {message}")
    return "; ".join(lines)
