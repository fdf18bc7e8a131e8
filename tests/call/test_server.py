"""The server as a hostile or careless client meets it: bounded, loopback only, nothing fetched, nothing opened."""

import base64
import io
import json
import threading
import time

import httpx
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the loopback server needs chapter38[call]")
pytest.importorskip("torch", reason="the loopback server draws: pip install 'chapter38[code]'")

from chapter38 import code
from chapter38.call.server.studio import DEFAULT, Limits, Refused, Studio
from chapter38.recipe import Recipe

HTTP = httpx.Client(timeout=600)
BEARER = {"authorization": "Bearer made-up"}
REPLICATE = "/v1/models/a/b/predictions"
POSTS = {
    "openai": ("/v1/images/generations", BEARER, lambda prompt: {"prompt": prompt, "model": "gpt-image-2"}),
    "replicate": (REPLICATE, BEARER | {"prefer": "wait"}, lambda prompt: {"input": {"prompt": prompt}}),
    "huggingface": ("/hf-inference/models/a/b", BEARER, lambda prompt: {"inputs": prompt}),
    "fal": ("/fal-ai/flux/schnell", {"authorization": "Key made-up"}, lambda prompt: {"prompt": prompt}),
    "google": ("/v1beta/models/m:generateContent", {"x-goog-api-key": "made-up"},
               lambda prompt: {"contents": [{"parts": [{"text": prompt}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", POSTS)
def test_no_key_no_picture(name, server):
    path, _, body = POSTS[name]
    assert HTTP.post(server[0] + path, json=body("x")).status_code == 401


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("bad", [b"", b"[]", b"{", b'{"prompt": 7}', b"[" * 50_000, b"null"], ids=lambda b: str(b[:12]))
def test_nonsense_is_a_client_error(name, bad, server):
    path, headers, _ = POSTS[name]
    reply = HTTP.post(server[0] + path, content=bad, headers=headers)
    assert reply.status_code in (400, 422), reply.text
    assert isinstance(reply.json(), dict) and "Traceback" not in reply.text


@pytest.mark.parametrize("name", POSTS)
def test_a_prompt_has_a_limit(name, server):
    path, headers, body = POSTS[name]
    assert HTTP.post(server[0] + path, json=body("x" * (DEFAULT.prompt + 1)), headers=headers).status_code == 422


@pytest.mark.parametrize(
    "fields",
    [{"width": 4096}, {"num_inference_steps": 999}, {"width": 100}, {"scheduler": "eular/karras"}, {"seed": 1.5},
     {"lora": "x"}, {"image": "/etc/passwd"}, {"image": "file:///etc/passwd"}, {"image": "http://127.0.0.1:1/x.png"},
     {"image": "data:image/png;base64,AAAA"}, {"mask": "x"}, {"model": "/tmp"}],
    ids=str,
)  # fmt: skip
def test_a_field_is_understood_or_refused(fields, server):
    reply = HTTP.post(server[0] + REPLICATE, json={"input": {"prompt": "x", **fields}}, headers=BEARER)
    assert reply.status_code == 422 and reply.json()["detail"]


@pytest.mark.parametrize("chunked", [False, True], ids=["said", "unsaid"])
def test_a_body_has_a_limit(server, chunked):
    big = b"x" * (DEFAULT.body + 1)
    content = (big[i : i + 2**20] for i in range(0, len(big), 2**20)) if chunked else big
    assert HTTP.post(server[0] + POSTS["fal"][0], content=content, headers=POSTS["fal"][1]).status_code == 413


def test_another_host_name_is_refused(server):
    assert HTTP.get(server[0] + "/ledger", headers={"host": "evil.example"}).status_code == 400


def test_the_ledger_tells_no_prompt_and_no_key(server):
    path, headers, body = POSTS["fal"]
    HTTP.post(server[0] + path, json=body("a very private boat") | {"num_inference_steps": 1}, headers=headers)
    ledger = HTTP.get(server[0] + "/ledger").text
    assert json.loads(ledger)[-1]["usd"] == "0.003"
    assert "private" not in ledger and "made-up" not in ledger


def test_replicate_polls_and_cancels(server):
    address, body = server[0], {"input": {"prompt": "a boat", "num_inference_steps": 2, "seed": 5}}
    first = HTTP.post(address + REPLICATE, json=body, headers=BEARER).json()
    second = HTTP.post(address + REPLICATE, json=body, headers=BEARER).json()
    assert first["status"] == "starting" and first["output"] is None
    canceled = HTTP.post(second["urls"]["cancel"], headers=BEARER).json()
    assert canceled["status"] in ("canceled", "starting", "succeeded")  # it may have begun already
    first = settle(lambda: HTTP.get(first["urls"]["get"], headers=BEARER).json(), "succeeded")
    png = base64.b64decode(first["output"][0].partition(",")[2])
    same = code.draw(Recipe(prompt="a boat", steps=2, seed=5)).image
    assert Image.open(io.BytesIO(png)).tobytes() == same.tobytes()
    assert HTTP.get(address + "/v1/predictions/nobody", headers=BEARER).status_code == 404


def test_fal_queues(server):
    key = POSTS["fal"][1]
    body = {"prompt": "a boat", "num_inference_steps": 2, "seed": 5}
    job = HTTP.post(server[0] + "/queue/fal-ai/flux/schnell", json=body, headers=key).json()
    settle(lambda: HTTP.get(job["status_url"], headers=key).json(), "COMPLETED")
    result = HTTP.get(job["response_url"], headers=key).json()
    image = Image.open(io.BytesIO(HTTP.get(result["images"][0]["url"]).content))
    assert image.tobytes() == code.draw(Recipe(prompt="a boat", steps=2, seed=5)).image.tobytes()


def settle(look, status):
    end = time.monotonic() + 600
    while (found := look())["status"] != status:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def test_the_queue_is_bounded(monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(code, "draw", lambda recipe: (go.wait(10), pytest.fail("drawn"))[0])
    studio = Studio(Limits(queue=2))
    jobs = [studio.submit("fal", "m", {}, Recipe(prompt="x")) for _ in range(2)]
    with pytest.raises(Refused) as refused:
        studio.submit("fal", "m", {}, Recipe(prompt="x"))
    assert refused.value.status == 429
    assert jobs[1].future.cancel()
    studio.submit("fal", "m", {}, Recipe(prompt="x")).future.cancel()  # a place became free
    go.set()
    studio.close()


def test_only_loopback_without_a_flag():
    from chapter38.call.server.app import _is_loopback

    assert all(map(_is_loopback, ("127.0.0.1", "::1", "localhost", "127.1.2.3")))
    assert not any(map(_is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org", "")))
