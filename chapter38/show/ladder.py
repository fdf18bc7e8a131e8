"""The chapter's ladder as a drawing, and the rule as an explorer that needs no kernel."""

import html
import json
from typing import Any

from chapter38.ladder import RULES, RUNGS
from chapter38.show.figures import Shown

HELD = {  # rung -> its name, what you hold there and what you write there
    "code": ("Code", "you hold weights and loop, and write Python"),
    "canvas": ("Canvas", "you hold the weights, and wire a graph"),
    "call": ("Call", "you hold a key, and send a request"),
}
_QUESTIONS = {
    "offline": "it must draw without a network", "residency": "data may not leave your machines",
    "adapters": "it needs a LoRA of your own", "latency_p95": "nearly every picture within two seconds",
    "control:controlnet": "edges or poses steer it (ControlNet)", "control:multi-stage": "several passes in one workflow",
    "control:regional": "other prompts for parts of the picture", "control:every-step": "you change what happens at every step",
    "control:own-training": "you train it yourself", "control:in-process": "it runs inside your own program",
}  # fmt: skip


def ladder(height: int = 330) -> Shown:
    """Three rungs between most control and least effort; the one arrow points down, and has a condition."""
    rungs = "".join(_rung(i, *HELD[rung]) for i, rung in enumerate(RUNGS))
    words = (
        f"A ladder of three rungs. At the top Call: {HELD['call'][1]}. In the middle Canvas: {HELD['canvas'][1]}. At the "
        f"bottom Code: {HELD['code'][1]}. A grey axis runs from least effort at the top to most control at the bottom. A red "
        "arrow points down: only where a need forces it."
    )
    axis = (
        '<line x1="40" y1="30" x2="40" y2="300" stroke="#888" stroke-width="3"/>'
        '<text x="52" y="36" fill="#444">least effort</text><text x="52" y="306" fill="#444">most control</text>'
    )
    arrow = (
        '<line x1="590" y1="60" x2="590" y2="262" stroke="#b3261e" stroke-width="4"/>'
        '<path d="M580 260 L590 282 L600 260 Z" fill="#b3261e"/>'
        '<text x="606" y="160" fill="#b3261e">step down only</text><text x="606" y="180" fill="#b3261e">where a need</text>'
        '<text x="606" y="200" fill="#b3261e">forces it</text>'
    )
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(words)}" viewBox="0 0 730 330" '
        f'width="730" height="{height}" style="max-width:100%;height:auto;background:#fff;font:15px system-ui,sans-serif">'
        f"{axis}{rungs}{arrow}</svg>"
    )
    caption = "Start at the top. One thing alone takes you down: a need that the rung cannot meet."
    return Shown(f'<figure style="margin:0">{picture}<figcaption>{caption}</figcaption></figure>', f"[figure: {words}] {caption}")


def _rung(place: int, name: str, held: str) -> str:
    y = 55 + 85 * place
    return (
        f'<rect x="150" y="{y}" width="410" height="58" rx="8" fill="#eef3f8" stroke="#0072B2" stroke-width="2"/>'
        f'<text x="166" y="{y + 24}" fill="#1b1b1b" font-weight="700">{name}</text>'
        f'<text x="166" y="{y + 45}" fill="#333">{held}</text>'
    )


def explorer() -> Shown:
    """The rule under check boxes: tick what a project needs, and read the rung and why. The volume rule needs a price."""
    rules: list[list[Any]] = [[_QUESTIONS[rule.need], RUNGS.index(rule.rung), rule.why, rule.lift] for rule in RULES]
    boxes = "".join(
        f'<label style="display:block"><input type="checkbox" data-rule="{i}"> {html.escape(question)}</label>'
        for i, (question, *_) in enumerate(rules)
    )
    script = (
        "var f=event.currentTarget,r=JSON.parse(f.dataset.rules),n=0,w=[];"
        "f.querySelectorAll('input:checked').forEach(function(b){var x=r[b.dataset.rule];n=Math.max(n,x[1]);w.push(x[2])});"
        "f.querySelector('output').textContent=JSON.parse(f.dataset.rungs)[n]+': '"
        "+(w.length?w.join('; '):'nothing forces a step down')"
    )
    names = [HELD[rung][0] for rung in RUNGS]
    form = (
        f'<fieldset data-rules="{html.escape(json.dumps(rules))}" data-rungs="{html.escape(json.dumps(names))}" '
        f'onchange="{html.escape(script)}"><legend>What does the project need?</legend>{boxes}'
        '<p><b><output aria-live="polite">Call: nothing forces a step down</output></b></p></fieldset>'
    )
    lines = [f"{question} -> {names[rung]} ({why})" for question, rung, why, _ in rules]
    return Shown(form, "\n".join(["[explorer: each need, and the highest rung that is left]", *lines]))
