"""Generate answers in batches: greedy or by beam search, constrained by a grammar, and score given answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from helpers import models
from helpers.decoding.grammar import Grammar, GrammarLogitsProcessor
from helpers.prompts import tokens
from helpers.run import machine, memory
from helpers.run.progress import tqdm
from helpers.run.say import say

PADDING = -1e8  # nats; beam search fills up with such beams where the grammar allows fewer answers than there are beams

Beams = list[list[tuple[str, float]]]  # for each question its candidates, best first: (text, log probability in nats)


def greedy_answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], **options: Any) -> list[str]:
    """Return the model's greedy answer to each prompt, as text; '' where there is none. Options as `generate_candidates`."""
    beams = generate_candidates(model, tokenizer, prompts, **options)
    return [candidates[0][0] if candidates else "" for candidates in beams]


def generate_candidates(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    count: int = 1,
    max_new_tokens: int,
    batch_size: int,
    grammars: Sequence[Grammar] | None = None,
    base: bool = False,
    lengths: Sequence[int] | None = None,
    progress: str = "",
) -> Beams:
    """Return the most probable answers to each prompt, in the order of the prompts.

    Prompts are sorted by length and padded on the left: little is padded, and all answers start at one position. A batch that
    does not fit the GPU's memory is halved. A prompt that leaves no room for an answer in the model's context gets none.

    Args:
        prompts: token ids, (length,) each.
        count: answers to each prompt, at most. 1 is greedy, its log probability given as 0; more are as many beams of a search.
        max_new_tokens: length at which an answer is cut.
        batch_size: prompts answered together; 0 takes as many as the GPU's free memory holds (`fitting_batch`).
        grammars: the grammar that each answer must follow, one a prompt; None leaves answers free.
        base: disable the adapter, so that the base model answers.
        lengths: cut each greedy answer at a length of its own, in tokens. A benchmark uses it to time answers as long as gold's.
        progress: title of a progress bar; '' shows none.
    """
    import torch

    room = context_length(model) - max_new_tokens
    fitting = [number for number, prompt in enumerate(prompts) if len(prompt) <= room]
    if len(fitting) < len(prompts):
        say(f"{len(prompts) - len(fitting):,} prompts are longer than {room:,} tokens: they get no answer")
    order = sorted(fitting, key=lambda number: -len(prompts[number]))  # longest first: memory runs out at once or never
    beams: Beams = [[] for _ in prompts]
    with (
        models.answering(model, base=base),
        tqdm(total=len(order), desc=progress, unit="question", disable=not progress) as bar,
    ):
        while order:
            size = batch_size or max(1, fitting_batch(model, len(prompts[order[0]]) + max_new_tokens) // count)
            batch = order[:size]
            limits = [lengths[number] if lengths else max_new_tokens for number in batch]
            allowed = [grammars[number] for number in batch] if grammars else None
            answers = try_batch(model, tokenizer, [prompts[number] for number in batch], limits, allowed, count)
            if answers is None:
                torch.cuda.empty_cache()
                batch_size = len(batch) // 2
                continue
            for number, candidates in zip(batch, answers, strict=True):
                beams[number] = candidates
            order = order[size:]
            bar.update(len(batch))
    return beams


def try_batch(model: Any, tokenizer: Any, prompts: list[list[int]], *arguments: Any) -> Beams | None:
    """Run `generate_batch`; return None if several prompts run out of GPU memory. A single prompt raises the error."""
    import torch

    try:
        return generate_batch(model, tokenizer, prompts, *arguments)
    except torch.cuda.OutOfMemoryError:
        if len(prompts) == 1:
            raise
        return None


def generate_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    grammars: Sequence[Grammar] | None = None,
    count: int = 1,
) -> Beams:
    """Return at most `count` answers to each prompt of one batch, with log probabilities in nats (0 for greedy ones).

    Greedy answers are cut at their own limit in tokens, beams at the largest.
    """
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    input_ids, attention_mask = pad_left(prompts, tokenizer.pad_token_id, model.device)
    width = input_ids.shape[1]
    ends = torch.tensor(limits, device=model.device) + width
    options = generation_options(model, tokenizer, max(limits))
    if grammars:
        options["logits_processor"] = LogitsProcessorList([GrammarLogitsProcessor(grammars, width)])
    if count == 1:
        options["stopping_criteria"] = StoppingCriteriaList([lambda ids, scores, **_: ends <= ids.shape[1]])
    else:  # length_penalty 0: the log probability of a whole answer, not its mean over tokens
        options |= {"num_beams": count, "num_return_sequences": count, "length_penalty": 0.0, "output_scores": True}
    with torch.inference_mode():
        written = model.generate(input_ids=input_ids, attention_mask=attention_mask, return_dict_in_generate=True, **options)
    texts = tokenizer.batch_decode(written.sequences[:, width:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    logs = written.sequences_scores.tolist() if count > 1 else [0.0] * len(texts)
    answers = list(zip(texts, logs, strict=True))
    groups = [answers[start : start + count] for start in range(0, len(answers), count)]
    return [[(text, log) for text, log in group if log > PADDING] for group in groups]


def pad_left(rows: Sequence[list[int]], pad: int, device: Any) -> tuple[Any, Any]:
    """Return token ids and attention mask of rows padded on the left, (rows, longest) each.

    pad pad  11  12  13      0 0 1 1 1
     21  22  23  24  25      1 1 1 1 1
    """
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def score(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], answers: Sequence[str], *, batch_size: int, progress: str = ""
) -> list[float]:
    """Return the log probability in nats of each given answer, its end of turn included, after its prompt.

    Args:
        prompts: token ids, (length,) each.
        answers: one a prompt, as text.
        batch_size: pairs scored together.
        progress: title of a progress bar; '' shows none.
    """
    import torch

    ends = [[*tokens.plain_ids(tokenizer, text), tokenizer.eos_token_id] for text in answers]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]) - len(ends[number]))
    logs = [0.0] * len(prompts)
    with models.answering(model), torch.inference_mode():
        for start in tqdm(range(0, len(order), batch_size), desc=progress, unit="batch", disable=not progress):
            batch = order[start : start + batch_size]
            rows = [[*prompts[number], *ends[number]] for number in batch]
            # Padded on the left, all answers lie in the last `tail` positions: only their logits are needed.
            ids, mask = pad_left(rows, tokenizer.pad_token_id, model.device)
            tail = max(len(ends[number]) for number in batch)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=tail + 1).logits
            of_tokens = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, -tail:, None])[..., 0]
            for number, row in zip(batch, of_tokens.tolist(), strict=True):
                logs[number] = sum(row[-len(ends[number]) :])
    return logs


def stream(model: Any, tokenizer: Any, prompt: list[int], *, max_new_tokens: int, base: bool = False) -> Iterator[str]:
    """Yield pieces of the greedy answer while the model writes it. `base` disables the adapter."""
    import torch
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=120.0, skip_special_tokens=True)
    ids = torch.tensor([prompt], device=model.device)
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "streamer": streamer}

    def write() -> None:
        try:
            with models.answering(model, base=base), torch.inference_mode():
                model.generate(**options, **generation_options(model, tokenizer, max_new_tokens))
        finally:
            streamer.end()  # also after an error: nobody shall wait for more

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield from streamer
    thread.join()


def fitting_batch(model: Any, length: int) -> int:
    """Return how many prompts of `length` tokens, answer included, fit the GPU's free memory; 16 without a GPU.

    Each token keeps a key and a value in each layer, copied once whenever the answer grows. Reading a prompt takes about eight
    tensors as wide as the feed-forward layer at the same time. A tenth of the memory stays free.
    """
    if machine.gpu() is None:
        return 16
    shape, number = model.config, 4 if model.dtype.itemsize == 4 else 2  # bytes; 4-bit weights still compute in 16 bits
    heads = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    keys_and_values = 2 * shape.num_hidden_layers * shape.num_key_value_heads * heads * number
    prompt = length * (2 * keys_and_values + 8 * shape.intermediate_size * number) + 8 * shape.vocab_size
    return max(1, int(0.9 * memory.free_gpu_bytes() / prompt))


def generation_options(model: Any, tokenizer: Any, max_new_tokens: int) -> dict[str, Any]:
    """Return the options of `model.generate` that every kind of answer shares: no sampling, and where to stop."""
    return {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        # a model's own generation settings may carry these, and transformers warns about them where nothing is sampled
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "eos_token_id": stop_tokens(model, tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }


def context_length(model: Any) -> int:
    """Return how many tokens, prompt and answer together, the model can hold; Unsloth sets a bound of its own."""
    longest = model.config.max_position_embeddings
    return min(longest, getattr(model, "max_seq_length", None) or longest)


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that ends an answer: the tokenizer's end of turn and those that the model names."""
    named = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(named if isinstance(named, list) else [named] if named is not None else [])})
