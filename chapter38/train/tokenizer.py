"""CLIP's tokenizer format, with byte-pair merges learned from this world's captions."""

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from chapter38.postcards.dataset import sample

CONTEXT, VOCABULARY = 32, 1200
SPLIT = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's own pattern
)
OTHER_TEXT = (  # common words, so that prompts about other things do not fall apart into letters
    "a quiet evening, one lonely boat",
    "hello from the seaside, wish you were here",
    "two cats and a dog in the garden, spring summer autumn winter",
)


def captions(seed: int = 1, count: int = 6000) -> list[str]:
    rng = random.Random(seed)
    return [sample(rng).varied_caption(rng) for _ in range(count)]


def build(folder: Path) -> CLIPTokenizer:
    """Learn the merges and write `vocab.json` and `merges.txt` in CLIP's order: bytes, bytes ending a word, merges, ends."""
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(SPLIT), "removed", invert=True)
    learner.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator([*captions(), *OTHER_TEXT * 20], trainer)
    merges = [m if isinstance(m, str) else " ".join(m) for m in json.loads(learner.to_str())["model"]["merges"]]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *(m.replace(" ", "") for m in merges)]
    words = [*dict.fromkeys(words), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)
    return tokenizer
