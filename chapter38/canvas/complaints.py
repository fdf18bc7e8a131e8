"""What a ComfyUI server says against a graph, in words that name the node by its title and say what to do."""

from collections.abc import Callable
from typing import Any

from chapter38.canvas import nodes as facts
from chapter38.canvas.graph import Graph
from chapter38.errors import nearest

Problem = dict[str, Any]


def in_our_words(answer: Any, graph: Graph) -> str:
    """One line a problem, from the body of a refused POST /prompt."""
    if not isinstance(answer, dict):
        return f"the server refused the workflow: {answer!r:.200}"
    lines = []
    for id, node in (answer.get("node_errors") or {}).items():
        for problem in node.get("errors", []):
            kind = str(node.get("class_type"))
            lines.append(f"node {id} ({_title(graph, id, kind)}): {_words(problem, kind)}")
    return "; ".join(lines) or _whole(answer.get("error"), graph)


def _title(graph: Graph, id: str, fallback: Any) -> str:
    return next((node.label for node in graph.nodes if str(node.id) == str(id)), str(fallback))


def _words(problem: Problem, kind: str) -> str:
    extra = {"class_type": kind, **(problem.get("extra_info") or {})}
    field = extra.get("input_name", "an input")
    say = WORDS.get(problem.get("type", ""))
    return say(field, extra) if say else f"{problem.get('message')}: {problem.get('details')}"


def _not_in_list(field: str, extra: Problem) -> str:
    config = extra.get("input_config") or [[]]
    options = config[0] if isinstance(config[0], list) else (config[1] if len(config) > 1 else {}).get("options", [])
    if not options and (spec := facts.kind(extra["class_type"])) and (told := spec.input(field)):
        options = told.options or ()  # the server leaves long lists out of its answer
    known = [str(option) for option in options or []]
    tail = nearest(str(extra.get("received_value")), known) if known else "the server has none at all"
    return f"{field}: the server has no {extra.get('received_value')!r}; {tail}"


def _bound(word: str, key: str) -> Callable[[str, Problem], str]:
    def say(field: str, extra: Problem) -> str:
        config = extra.get("input_config") or [None, {}]
        limit = (config[1] if len(config) > 1 else {}).get(key)
        return f"{field}: {extra.get('received_value')} is too {word}; {key} is {limit}"

    return say


WORDS: dict[str, Callable[[str, Problem], str]] = {
    "required_input_missing": lambda field, extra: f"{field} is not connected and has no value",
    "value_not_in_list": _not_in_list,
    "value_smaller_than_min": _bound("small", "min"),
    "value_bigger_than_max": _bound("large", "max"),
    "invalid_input_type": lambda field, extra: f"{field}: {extra.get('received_value')!r} is of the wrong type",
    "return_type_mismatch": lambda field, extra: (
        f"{field}: its link brings {extra.get('received_type')}, where {_expected(extra)} is expected"
    ),
    "exception_during_inner_validation": lambda field, extra: "what it is linked to has a problem of its own",
}


def _expected(extra: Problem) -> str:
    config = extra.get("input_config") or ["something else"]
    return str(config[0])


def _whole(error: Any, graph: Graph) -> str:
    """A refusal that is not about one input."""
    if not isinstance(error, dict):
        return f"the server refused the workflow: {error}"
    extra = error.get("extra_info") or {}
    if extra.get("class_type"):
        title = _title(graph, str(extra.get("node_id")), extra["class_type"])
        return f"node {extra.get('node_id')} ({title}): this server has no node class {extra['class_type']}"
    if error.get("type") == "prompt_no_outputs":
        return "the workflow has no node that saves or shows anything; add SaveImage"
    return f"the server refused the workflow: {error.get('message')} {error.get('details') or ''}".strip()
