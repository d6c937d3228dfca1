"""A tuned model -> texts: greedy answers or beams in batches, within a constraint, and the probability of a given answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from helpers import constraint, models
from helpers.run import machine, memory
from helpers.run.progress import tqdm

FILLING = -1e8  # log probability at and below which a beam is none

Answers = list[list[tuple[str, float]]]  # candidates of each question: (text as the model writes it, log probability in nats)


def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    base: bool = False,
    lengths: Sequence[int] | None = None,
    progress: str = "",
) -> list[str]:
    """The model's greedy answers, as text, in the order of the prompts. As `search` with one candidate."""
    found = search(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        base=base,
        lengths=lengths,
        progress=progress,
    )
    return [some[0][0] if some else "" for some in found]


def search(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    count: int = 1,
    max_new_tokens: int,
    batch_size: int,
    checkers: Sequence[constraint.Checker] | None = None,
    base: bool = False,
    lengths: Sequence[int] | None = None,
    progress: str = "",
) -> Answers:
    """The most probable answers to each prompt, in the order of the prompts, the best first: text and log probability.

    Prompts are sorted by length and padded on the left, so that a batch wastes little and every row ends where its answer begins.
    An answer ends with the end of the turn. Batches that do not fit the GPU's memory are halved. A prompt that leaves no room for
    an answer in the model's context gets none.

    Args:
        prompts: token ids, (length,) each.
        count: answers to a prompt: 1 is greedy (its log probability is given as 0), more are the beams of a search of this width.
        max_new_tokens: length at which an answer is cut.
        batch_size: prompts answered together; 0 takes as many as the GPU's free memory holds (`fitting_batch`).
        checkers: what each answer may say, one a prompt.
        base: answer as before training, with the adapter switched off.
        lengths: cut each answer at a length of its own, in tokens: to time answers as long as gold's, whatever the model knows.
        progress: title of a progress bar; '' shows none.
    """
    import torch

    room = context(model) - max_new_tokens
    fitting = [number for number, prompt in enumerate(prompts) if len(prompt) <= room]
    if len(fitting) < len(prompts):
        print(f"{len(prompts) - len(fitting):,} prompts are longer than {room:,} tokens: they get no answer")
    order = sorted(fitting, key=lambda number: -len(prompts[number]))  # longest first: memory runs out at once or never
    answers: Answers = [[] for _ in prompts]
    with (
        models.answering(model, base=base),
        tqdm(total=len(order), desc=progress, unit="question", disable=not progress) as bar,
    ):
        while order:
            size = batch_size or max(1, fitting_batch(model, len(prompts[order[0]]) + max_new_tokens) // count)
            batch = order[:size]
            cuts = [lengths[number] if lengths else max_new_tokens for number in batch]
            try:
                rules = [checkers[number] for number in batch] if checkers else None
                found = generate(model, tokenizer, [prompts[number] for number in batch], cuts, rules, count)
            except torch.cuda.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                found = None
            if found is None:  # outside of the except block: its error holds on to what is to be freed
                torch.cuda.empty_cache()
                batch_size = len(batch) // 2
                continue
            for at, some in zip(batch, found, strict=True):
                answers[at] = some
            order = order[size:]
            bar.update(len(batch))
    return answers


def score(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], answers: Sequence[str], *, batch_size: int, progress: str = ""
) -> list[float]:
    """The log probability of an answer, and of the turn's end behind it, to each prompt.

    Args:
        prompts: token ids, (length,) each.
        answers: one a prompt, as text.
        batch_size: pairs looked at together.
        progress: title of a progress bar; '' shows none.
    """
    import torch

    ends = [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in answers]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]) - len(ends[number]))
    found = [0.0] * len(prompts)
    with models.answering(model), torch.inference_mode():
        for begin in tqdm(range(0, len(order), batch_size), desc=progress, unit="batch", disable=not progress):
            batch = order[begin : begin + batch_size]
            rows = [[*prompts[number], *ends[number]] for number in batch]
            width, tail = max(map(len, rows)), max(len(ends[number]) for number in batch)
            # padded on the left, so that all answers lie in the last places, the only ones whose logits are needed
            ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows], device=model.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=tail + 1).logits
            logs = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, -tail:, None])[..., 0]
            for number, row in zip(batch, logs.tolist(), strict=True):
                found[number] = sum(row[-len(ends[number]) :])
    return found


def pieces(model: Any, tokenizer: Any, prompt: list[int], *, max_new_tokens: int, base: bool = False) -> Iterator[str]:
    """The greedy answer piece by piece as the model writes it; with `base`, as before training."""
    import torch
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=120.0, skip_special_tokens=True)
    ids = torch.tensor([prompt], device=model.device)
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "streamer": streamer}

    def write() -> None:
        try:
            with models.answering(model, base=base), torch.inference_mode():
                model.generate(**options, **decoding(model, tokenizer, max_new_tokens))
        finally:
            streamer.end()  # whatever happened: nobody shall wait for more

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield from streamer
    thread.join()


def fitting_batch(model: Any, length: int) -> int:
    """How many prompts of `length` tokens, answer included, the GPU's free memory holds at once; 16 without a GPU.

    A token keeps a key and a value a layer, copied once whenever the answer grows; reading a prompt takes about eight
    tensors as wide as the feed-forward layer at the same time. A tenth stays free.
    """
    if machine.gpu() is None:
        return 16
    shape, width = model.config, 2  # bytes of a 16-bit number
    heads = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    width = 4 if model.dtype.itemsize == 4 else width
    keys_and_values = 2 * shape.num_hidden_layers * shape.num_key_value_heads * heads * width
    each = length * (2 * keys_and_values + 8 * shape.intermediate_size * width) + 8 * shape.vocab_size
    return max(1, int(0.9 * memory.free_gpu_bytes() / each))


def generate(
    model: Any,
    tokenizer: Any,
    prompts_ids: list[list[int]],
    cuts: list[int],
    checkers: Sequence[constraint.Checker] | None = None,
    count: int = 1,
) -> list[list[tuple[str, float]]]:
    """`count` answers to each prompt of one batch with their log probabilities, each cut at a number of tokens.

    input_ids        pad pad  11  12  13      attention_mask   0 0 1 1 1
                      21  22  23  24  25                       1 1 1 1 1
    """
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    width = max(map(len, prompts_ids))
    input_ids = torch.tensor(
        [[tokenizer.pad_token_id] * (width - len(prompt)) + prompt for prompt in prompts_ids], device=model.device
    )
    attention_mask = torch.tensor(
        [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts_ids], device=model.device
    )
    limits = torch.tensor(cuts, device=model.device) + width
    options = decoding(model, tokenizer, max(cuts))
    if checkers:
        options["logits_processor"] = LogitsProcessorList([constraint.Constraint(checkers, width)])
    if count == 1:
        options["stopping_criteria"] = StoppingCriteriaList([lambda ids, scores, **_: limits <= ids.shape[1]])
    else:
        # the log probability of the whole answer, not of a token of it
        options |= {"num_beams": count, "num_return_sequences": count, "length_penalty": 0.0, "output_scores": True}
    with torch.inference_mode():
        written = model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            return_dict_in_generate=True,
            **options,
        )
    texts = decoded(tokenizer, written.sequences[:, width:])
    logs = written.sequences_scores.tolist() if count > 1 else [0.0] * len(texts)
    found = list(zip(texts, logs, strict=True))
    # where fewer tokens are allowed than there are beams, the rest of them is only filling
    return [[one for one in found[at : at + count] if one[1] > FILLING] for at in range(0, len(found), count)]


def decoding(model: Any, tokenizer: Any, max_new_tokens: int) -> dict[str, Any]:
    """The options of `generate` that every kind of answer has in common: no chance, and an end."""
    return {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        # a model's own generation settings may carry these, which decoding without chance warns about
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "eos_token_id": stop_tokens(model, tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }


def decoded(tokenizer: Any, written: Any) -> list[str]:
    """Token ids, (answers, length), as text."""
    return tokenizer.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def context(model: Any) -> int:
    """Tokens that the model can read and write in one go; Unsloth sets a bound of its own."""
    return min(
        model.config.max_position_embeddings, getattr(model, "max_seq_length", None) or model.config.max_position_embeddings
    )


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the tokenizer's end of turn and those that the model names."""
    named = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(named if isinstance(named, list) else [named] if named is not None else [])})
