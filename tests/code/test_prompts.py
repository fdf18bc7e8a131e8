"""Prompts: ComfyUI's weights and chunks, Diffusers' tokenization, skipped layers."""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from chapter38.code import prompts
from chapter38.code.prompts import chunks, encode, even, weighted


@pytest.fixture(scope="module")
def clip():
    pipe = tiny.sd()
    return pipe.tokenizer, pipe.text_encoder


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a red boat", [("a red boat", 1.0)]),
        ("a (red) boat", [("a ", 1.0), ("red", 1.1), (" boat", 1.0)]),
        ("(red:1.5)", [("red", 1.5)]),
        ("((red))", [("red", 1.1 * 1.1)]),
        ("(a (red:0.5) boat:2)", [("a ", 2.0), ("red", 0.5), (" boat", 2.0)]),
        (r"a \(red\) boat", [("a (red) boat", 1.0)]),
        ("(red:big)", [("red:big", 1.1)]),
        ("(red", [("(red", 1.0)]),
        ("", []),
    ],
)
def test_weights_on_words(text, parts):
    assert [(t, pytest.approx(w)) for t, w in parts] == weighted(text)


@given(st.text(st.characters(exclude_characters="\\\0", exclude_categories=["Cs"])))
def test_escaped_parentheses_mean_themselves(text):
    escaped = text.replace("(", r"\(").replace(")", r"\)")
    assert weighted(escaped) == ([(text, 1.0)] if text else [])


@given(st.text("ab (:)12.\\", max_size=30))
def test_any_text_can_be_weighed(text):
    assert all(isinstance(weight, float) for _, weight in weighted(text))


def test_a_short_prompt_is_tokenized_as_diffusers_does(clip):
    tokenizer, _ = clip
    theirs = tokenizer("a red boat", padding="max_length", max_length=tokenizer.model_max_length).input_ids
    assert [[token for token, _ in row] for row in chunks(tokenizer, "a red boat")] == [theirs]


def test_a_long_prompt_is_continued_and_not_cut(clip):
    tokenizer, encoder = clip
    text = "a red boat on the sea " * 12
    rows = chunks(tokenizer, text)
    assert len(rows) > 1 and all(len(row) == tokenizer.model_max_length for row in rows)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    inner = [token for row in rows for token, _ in row if token not in (start, end)]
    assert inner == tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    hidden, _ = encode(tokenizer, encoder, text)
    assert hidden.shape[1] == len(rows) * tokenizer.model_max_length


def test_short_and_long_are_paired_by_repetition():
    short, long = torch.ones(1, 2, 3), torch.zeros(1, 6, 3)
    assert [e.shape[1] for e in even([short, long])] == [6, 6]
    assert [e.shape[1] for e in even([torch.ones(1, 4, 3), long])] == [12, 12]


def test_weight_one_changes_nothing_and_weight_zero_says_nothing(clip):
    tokenizer, encoder = clip
    with torch.no_grad():
        plain, _ = encode(tokenizer, encoder, "a red boat")
        ones, _ = encode(tokenizer, encoder, "a (red:1.0) boat", "weighted")
        none, _ = encode(tokenizer, encoder, "(a red boat:0)", "weighted")
        empty, _ = encode(tokenizer, encoder, "")
        half, _ = encode(tokenizer, encoder, "(a red boat:0.5)", "weighted")
    assert torch.equal(plain, ones)
    assert torch.allclose(none[:, 1:4], empty[:, 1:4], atol=1e-6)
    assert torch.allclose(half[:, 1:4], (plain + empty)[:, 1:4] / 2, atol=1e-5)


def test_plain_syntax_keeps_parentheses(clip):
    tokenizer, _ = clip
    assert chunks(tokenizer, "(red:2)") != chunks(tokenizer, "red")
    assert [t for t, _ in chunks(tokenizer, "(red:2)", "weighted")[0]] == [t for t, _ in chunks(tokenizer, "red")[0]]


def test_clip_skip_reads_an_earlier_layer_through_the_last_norm(clip):
    tokenizer, encoder = clip
    ids = torch.tensor([[t for t, _ in chunks(tokenizer, "a red boat")[0]]])
    with torch.no_grad():
        out = encoder(ids, output_hidden_states=True)
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        for skip in (0, 1, 2):
            ours, _ = encode(tokenizer, encoder, "a red boat", skip=skip)
            assert torch.equal(ours, norm(out.hidden_states[-(skip + 1)]))


def test_a_word_is_not_broken_over_two_chunks(clip):
    tokenizer, _ = clip
    room = tokenizer.model_max_length - 2
    filler = ["red"] * (room - 1)
    text = " ".join(filler) + " (boat on sea:1.2)"
    first, second = chunks(tokenizer, text, "weighted")
    assert prompts.WORD > 3
    assert all(weight == 1 for _, weight in first)
    assert sum(weight == 1.2 for _, weight in second) == 3
