"""The five SDKs, real, against the loopback server: pixel for pixel, one POST a call, nothing secret said."""

import os
import pickle
import subprocess
import sys
import threading
import traceback
from decimal import Decimal as D
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from chapter38.call import Guard, Quote, draw
from chapter38.call.guard import HIDDEN, CallFailed, OverBudget, Secret, redact
from chapter38.call.providers import PROVIDERS
from chapter38.errors import CannotExpress, ProviderError
from chapter38.picture import Picture
from chapter38.recipe import Adapter, Recipe

for package in ("openai", "replicate", "huggingface_hub", "fal_client", "google.genai", "fastapi", "torch"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'chapter38[call,code]'")

from chapter38 import code  # noqa: E402

BOAT = Recipe(prompt="a small red sailboat on the left, on the sea, at sunset", seed=38)
FULL = BOAT.but(steps=3, guidance=2.5, sampler="euler", spacing="linspace", negative="a lighthouse", width=64, height=96)
WIDE = ["replicate", "huggingface", "fal"]  # protocols that carry the whole of a diffusion recipe


@pytest.mark.parametrize("name", WIDE)
def test_protocol_fidelity(name, server):
    address, studio = server
    picture = draw(FULL, name, address=address)
    assert picture.image.tobytes() == code.draw(FULL).image.tobytes()
    assert studio.ledger[-1].recipe == FULL == picture.recipe
    lock = picture.receipt.lock
    assert lock.not_honoured == {} and lock.rung == "call" and any("loopback" in note for note in lock.notes)


def test_a_closed_model_with_a_seed_draws_the_same(server):
    address, studio = server
    picture = draw(BOAT, "google", address=address)
    assert picture.image.tobytes() == code.draw(BOAT).image.tobytes()
    assert picture.receipt.lock.price.usd and studio.ledger[-1].usd == D(picture.receipt.lock.price.usd)


def test_without_a_seed_the_provider_chooses_and_the_receipt_says_so(server):
    address, studio = server
    with pytest.raises(CannotExpress, match="seed"):
        draw(BOAT, "openai", address=address)
    picture = draw(BOAT, "openai", address=address, best_effort=True)
    assert set(picture.receipt.lock.not_honoured) == {"seed"}
    assert picture.image.tobytes() == code.draw(studio.ledger[-1].recipe).image.tobytes()
    assert picture.receipt.meter.request_id == studio.ledger[-1].id


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_preview_is_what_the_sdk_sends(name, server):
    address, studio = server
    recipe = FULL if name in WIDE else BOAT
    draw(recipe, name, address=address, best_effort=True)
    request = PROVIDERS[name].preview(recipe, address)
    assert request.body == studio.ledger[-1].body
    assert HIDDEN in str(request.headers) and not any(key in str(request) for key in fake_values())


@pytest.mark.parametrize("name", ["replicate", "fal", "openai"])
def test_a_picture_and_a_mask_arrive_whole(name, server):
    address, studio = server
    start, mask = Image.new("RGB", (128, 128), "navy"), Image.new("L", (128, 128), 0)
    mask.paste(255, (32, 32, 96, 96))
    recipe = BOAT.but(image=start, mask=mask)
    try:
        draw(recipe, name, address=address, best_effort=True)
    except CallFailed as error:  # the drawing room may not know masks: what counts here is what arrived
        assert error.status in (None, 422)
    arrived = studio.ledger[-1].recipe
    assert (arrived.image, arrived.mask.image.tobytes()) == (recipe.image, mask.tobytes())


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_cannot_be_expressed_raises_or_is_recorded(name):
    recipe = BOAT.but(adapters=[Adapter(name="ink")], clip_skip=1)
    assert {"adapters", "clip_skip"} <= set(PROVIDERS[name].unmet(recipe))
    with pytest.raises(CannotExpress):
        draw(recipe, name, address="http://127.0.0.1:9")
    with pytest.raises(CannotExpress, match="not sold"):
        draw(Recipe(prompt="", model="sd15"), name, address="http://127.0.0.1:9", best_effort=True)


class Broken(BaseHTTPRequestHandler):
    """Does the work, counts it, then answers with `status`, or hangs up where it is None. It repeats the key it got."""

    status: int | None = 500
    posts = 0

    def do_POST(self):
        type(self).posts += 1
        self.rfile.read(int(self.headers.get("content-length", 0)))
        key = self.headers.get("authorization") or self.headers.get("x-goog-api-key")
        if self.status:
            body = f'{{"error": {{"message": "nginx says: {key}"}}, "detail": "{key}"}}'.encode()
            self.send_response(self.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(body)
        else:
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def broken():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Broken.posts = 0
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("status", [None, 400, 401, 429, 500, 503])
@pytest.mark.parametrize("name", PROVIDERS)
def test_one_intent_one_post_whatever_goes_wrong(name, status, broken, capsys):
    Broken.status = status
    with pytest.raises(CallFailed) as failure:
        draw(BOAT, name, address=broken, best_effort=True, timeout=5)
    assert Broken.posts == 1
    assert failure.value.status == status
    assert failure.value.billed == ("no" if status and status < 500 else "maybe")
    told = "".join(traceback.format_exception(failure.value)) + capsys.readouterr().out + capsys.readouterr().err
    assert not any(key in told for key in fake_values())
    assert failure.value.__cause__ is None and failure.value.__context__ is None


def test_a_failing_run_prints_no_key(broken, tmp_path):
    """The whole of what a failing program says, its traceback with locals and debug logs included."""
    Broken.status = 401
    script = tmp_path / "run.py"
    script.write_text(
        "import logging, sys; logging.basicConfig(level=logging.DEBUG)\n"
        "from rich.traceback import install; install(show_locals=True)\n"
        "from chapter38.call import draw\nfrom chapter38 import Recipe\n"
        "draw(Recipe(prompt='x'), sys.argv[1], address=sys.argv[2], best_effort=True)\n"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in PROVIDERS:
        run = subprocess.run([sys.executable, script, name, broken], capture_output=True, text=True, env=env)
        said = run.stdout + run.stderr
        assert run.returncode == 1 and "CallFailed" in said
        assert not [key for key in fake_values() if key in said], name


def test_no_key_in_the_picture(server, tmp_path):
    address, _ = server
    path = draw(BOAT, "replicate", address=address).save(tmp_path / "boat.png", sidecar=True)
    for file in tmp_path.iterdir():
        assert not any(key.encode() in file.read_bytes() for key in fake_values())
    assert Picture.open(path).receipt.lock.price.usd == "0.003"


def test_a_secret_hides_and_is_not_pickled(monkeypatch):
    secret = Secret("FAL_KEY")
    assert secret.reveal() not in f"{secret} {secret!r} {vars(PROVIDERS['fal'])}"
    with pytest.raises(TypeError, match="not picklable"):
        pickle.dumps(PROVIDERS["fal"])
    monkeypatch.setenv("FAL_KEY", "user-id-123456:topsecret")
    said = redact("got user-id-123456:topsecret, topsecret, Authorization: Key abcdefgh")
    assert said == f"got {HIDDEN}, {HIDDEN}, Authorization: Key {HIDDEN}"
    monkeypatch.delenv("FAL_KEY")
    with pytest.raises(ProviderError, match="FAL_KEY"):
        secret.reveal()


def test_the_cap_holds_before_anything_is_sent(broken):
    Broken.status = 500
    guard = Guard(cap_usd=D("0.004"))
    with pytest.raises(CallFailed):
        draw(BOAT, "replicate", address=broken, guard=guard)  # may be billed: 0.003 stay reserved
    with pytest.raises(OverBudget, match="pass the cap"):
        draw(BOAT.but(seed=1), "replicate", address=broken, guard=guard)
    with pytest.raises(OverBudget, match="unknown"):
        draw(BOAT, "huggingface", address=broken, guard=guard)
    assert Broken.posts == 1 and guard.spent == D("0.003")


def test_one_intent_is_paid_once(server, broken):
    address, studio = server
    guard, before = Guard(), len(studio.ledger)
    first = draw(BOAT, "replicate", address=address, guard=guard)
    assert draw(BOAT, "replicate", address=address, guard=guard) is first
    assert len(studio.ledger) == before + 1 and guard.spent == D("0.003")
    draw(BOAT, "replicate", address=address, guard=guard, intent="another")
    assert len(studio.ledger) == before + 2 and guard.spent == D("0.006")
    for status, again in ((500, "look it up"), (400, "answered 400")):
        Broken.status, other = status, Guard()
        for expected in ("answered", again):
            with pytest.raises(ProviderError, match=expected):
                draw(BOAT, "fal", address=broken, guard=other)


def test_what_never_left_may_be_tried_again(server, monkeypatch):
    guard = Guard()
    key = os.environ["REPLICATE_API_TOKEN"]
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    with pytest.raises(ProviderError, match="REPLICATE_API_TOKEN"):
        draw(BOAT.but(steps=1), "replicate", address=server[0], guard=guard)
    monkeypatch.setenv("REPLICATE_API_TOKEN", key)
    assert draw(BOAT.but(steps=1), "replicate", address=server[0], guard=guard).image.size == (128, 128)


def test_expected_tokens_let_a_cap_reckon():
    guard = Guard(cap_usd=D("0.01"))
    with pytest.raises(OverBudget, match="unknown"):
        draw(BOAT, "openai", address="http://127.0.0.1:9", guard=guard, best_effort=True)
    with pytest.raises(OverBudget, match="pass the cap"):
        draw(BOAT, "openai", address="http://127.0.0.1:9", guard=guard, best_effort=True, expect={"image_out": 1056})
    assert Quote(None).price is None


def fake_values() -> list[str]:
    from chapter38.call.guard import KEYS

    return [os.environ[name] for name in KEYS if name in os.environ]
