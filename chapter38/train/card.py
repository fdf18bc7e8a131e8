"""A model card beside each file of weights: `card.json` for programs, `README.md` for people; every figure measured, dated."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from chapter38.code.models import sha256
from chapter38.measure import world
from chapter38.postcards import WEIGHTS


def base_sha256(weights: Path) -> str:
    """Names the base that an adapter was trained on: the digest of its denoiser's file."""
    return sha256(weights / "unet" / "diffusion_pytorch_model.safetensors")


def sheet(rows: Sequence[Sequence[Image.Image]], file: Path) -> None:
    """Rows of pictures of one size as one picture, for eyes to judge."""
    pictures = [picture.convert("RGB") for row in rows for picture in row]
    world.sheet(pictures, columns=len(rows[0]), gap=0).save(file, quality=90, method=6)


def write_card(folder: Path, title: str, says: str, made: dict[str, Any], figures: dict[str, str]) -> None:
    """`says`: what it is and is not, in sentences; `made`: how; `figures`: what was measured -> result with its interval."""
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*.safetensors"))}
    base = folder if (folder / "unet").is_dir() else WEIGHTS
    card = {
        "title": title, "says": says, "date": datetime.date.today().isoformat(), "licence": "CC BY 4.0", "sha256": files,
        "base": {"model": "postcards", "unet_sha256": base_sha256(base)}, "made": made, "figures": figures,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "README.md").write_text(_page(card), "utf-8")


def _page(card: dict[str, Any]) -> str:
    table = lambda head, rows: "\n".join(  # noqa: E731
        [f"| {head} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    )
    return (
        f"---\nlicense: cc-by-4.0\nlibrary_name: diffusers\n---\n# {card['title']}\n\n{card['says']}\n\n"
        f"Measured {card['date']}, on the base whose U-Net has SHA-256 `{card['base']['unet_sha256'][:16]}…`.\n\n"
        f"{table('measured', card['figures'])}\n\n{table('made', card['made'])}\n\n{table('SHA-256', card['sha256'])}\n"
    )
