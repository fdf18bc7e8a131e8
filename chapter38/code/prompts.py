"""Words to conditioning with CLIP text encoders: weights on words, chunks of one context each, skipped layers."""

from functools import reduce
from typing import Any

import torch

WORD = 8  # a run of fewer tokens than this is not broken over two chunks (ComfyUI's rule)
Token = tuple[int, float]  # (id, weight)


def weighted(text: str) -> list[tuple[str, float]]:
    r"""Split ComfyUI's syntax into (text, weight): `(x)` is 1.1, `(x:1.3)` is 1.3, nesting multiplies, `\(` is a bracket.

    >>> weighted("a (red:1.5) boat")
    [('a ', 1.0), ('red', 1.5), (' boat', 1.0)]
    """
    hidden = text.replace(r"\)", "\0\1").replace(r"\(", "\0\2")
    show = lambda part: part.replace("\0\1", ")").replace("\0\2", "(")  # noqa: E731
    return [(show(part), weight) for part, weight in _weigh(hidden, 1.0)]


def _weigh(text: str, weight: float) -> list[tuple[str, float]]:
    found = []
    for part in _outermost(text):
        if len(part) >= 2 and part[0] == "(" and part[-1] == ")":
            inner, colon, number = part[1:-1].rpartition(":")
            given = _number(number) if colon and inner else None
            found += _weigh(part[1:-1], weight * 1.1) if given is None else _weigh(inner, given)
        else:
            found.append((part, weight))
    return found


def _outermost(text: str) -> list[str]:
    """The text cut at its outermost parentheses, which stay on their parts."""
    parts, current, depth = [], "", 0
    for char in text:
        if char == "(" and depth == 0 and current:
            parts.append(current)
            current = ""
        current += char
        depth += (char == "(") - (char == ")")
        if char == ")" and depth == 0:
            parts.append(current)
            current = ""
    return [*parts, current] if current else parts


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def chunks(tokenizer: Any, text: str, syntax: str = "plain") -> list[list[Token]]:
    """The prompt as chunks of exactly one context: start, at most `model_max_length` - 2 tokens, end, padding.

    A short prompt gives the one chunk that Diffusers' tokenization gives; a long one is continued, not cut.
    """
    length = tokenizer.model_max_length
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows: list[list[Token]] = [[]]
    for part, weight in weighted(text) if syntax == "weighted" else [(text, 1.0)]:
        tokens = [(i, weight) for i in tokenizer(part, add_special_tokens=False, verbose=False).input_ids]
        whole = len(tokens) < WORD
        while tokens:
            room = length - 2 - len(rows[-1])
            if len(tokens) > room:
                if not whole:
                    rows[-1] += tokens[:room]
                    tokens = tokens[room:]
                rows.append([])
            else:
                rows[-1] += tokens
                tokens = []
    frame = lambda row: [(start, 1.0), *row, (end, 1.0)]  # noqa: E731
    return [(frame(row) + [(pad, 1.0)] * length)[:length] for row in rows]


def encode(
    tokenizer: Any, encoder: Any, text: str, syntax: str = "plain", skip: int = 0, penultimate: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One prompt -> (embeddings (1, chunks * context, width), pooled (1, width) or None).

    `skip` layers at the end are left out; `penultimate`: take the layer before the last as it is (SDXL), else the
    last one through the final norm. A token of weight w becomes e + (z - e) * w, with e the encoding of "".
    """
    rows = chunks(tokenizer, text, syntax)
    states, pooled = [], []
    for row in rows:
        hidden, pool = _states(encoder, [token for token, _ in row], skip, penultimate)
        weights = [weight for _, weight in row]
        if any(weight != 1 for weight in weights):
            empty, _ = _states(encoder, [token for token, _ in chunks(tokenizer, "")[0]], skip, penultimate)
            scale = torch.tensor(weights, dtype=hidden.dtype, device=hidden.device)[None, :, None]
            hidden = torch.where(scale == 1, hidden, empty + (hidden - empty) * scale)
        states.append(hidden)
        pooled.append(pool)
    return torch.cat(states, dim=1), pooled[0]


def _states(encoder: Any, ids: list[int], skip: int, penultimate: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    out = encoder(torch.tensor([ids], device=encoder.device), output_hidden_states=bool(skip) or penultimate)
    pooled = out[0] if penultimate and out[0].ndim == 2 else None
    if penultimate:
        return out.hidden_states[-(skip + 2)], pooled
    if not skip:
        return out[0], None
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    return norm(out.hidden_states[-(skip + 1)]), None


def even(embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
    """Repeat shorter prompts until all have the same number of tokens, as ComfyUI pairs a long with a short one."""
    from math import lcm

    length = reduce(lcm, (e.shape[1] for e in embeddings))
    return [e.repeat(1, length // e.shape[1], 1) for e in embeddings]
