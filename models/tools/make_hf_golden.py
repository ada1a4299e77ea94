#!/usr/bin/env python3
"""Logits of a model folder in full attention, computed by Hugging Face transformers.

    pip install torch transformers sentencepiece protobuf
    python3 models/tools/make_hf_golden.py models/quire-6m

Loads the folder as anybody would (LlamaForCausalLM, eager attention, float32; AutoTokenizer) and writes
hf_logits.json into it: the largest logits after every 32nd token of the prompts of golden_prompts.json, and
after every token that greedy decoding adds to them. Checks on the way that a conversation becomes the tokens
that make_golden.py feeds.

Quire rounds to bf16 where transformers keeps float32: norm outputs, rotated queries and keys, cached
values, attention outputs and SwiGLU's product (models/README.md). So the file says beside every logit how far
such roundings move it: the rms over SEEDS runs in which each of those numbers gets an error that is uniform
over one unit in the last place of bf16, which is what rounding to the nearest does to numbers that know
nothing of bf16. Angles are no source of error here: transformers keeps a pair's frequency and angle in
float32, which is off by 1.3e-7 of the angle at most. The first pair's are exact; with theta = 1e30 the second
has turned by 177 radians behind MAX_PROMPT tokens, and 2.3e-5 radians are a hundredth of a bf16 rounding.
(Behind a million tokens they are 0.015 radians. Quire's angles are float64.)
"""

import argparse
import contextlib
import json
import pathlib
import unittest.mock

import sentencepiece
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.llama import modeling_llama

from make_golden import encode_prompt

STRIDE = 32  # prompt positions from one recorded to the next
NUM_TOP = 5  # [token, logit, rms of its error by roundings] at each
SEEDS = 16
MAX_PROMPT = 1536  # tokens: attention of Quire's reference backend takes its square in time
MORE_QUESTIONS = {"short": "What is the access code of the Henus library?",
                  "mixed_policy": "What is the ticket price of the Plougat vault?"}
NUM_GENERATED = 64  # greedy tokens of all prompts together, at least
MIN_MARGIN = 1.0  # of a greedy token's logit over the next; closer ones are left to chance
DIALOGUE = [
    {"role": "system", "content": "The access code of the Meage vault is 619.\n\nIt rains."},
    {"role": "user", "content": "What is the access code of the Meage vault?"},
    {"role": "assistant", "content": "The access code of the Meage vault is 619."},
    {"role": "user", "content": "And its colour?"},
]


def with_rounding_error(x):
    """x with an error uniform over one unit in the last of bf16's eight binary digits."""
    return x + torch.ldexp(torch.rand_like(x) - 0.5, torch.frexp(x).exponent - 8)


@contextlib.contextmanager
def rounding_errors(model):
    """While it is open, the model's numbers have errors where Quire's are rounded to bf16."""

    def of_output(_module, _inputs, output):
        return with_rounding_error(output)

    def of_input(_module, inputs):
        return (with_rounding_error(inputs[0]), *inputs[1:])

    def rotate(*args, **kwargs):
        return tuple(with_rounding_error(x) for x in exact_rotate(*args, **kwargs))

    exact_rotate = modeling_llama.apply_rotary_pos_emb
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, modeling_llama.LlamaRMSNorm) or name.endswith("v_proj"):
                stack.callback(module.register_forward_hook(of_output).remove)
            elif name.endswith(("o_proj", "down_proj")):
                stack.callback(module.register_forward_pre_hook(of_input).remove)
        stack.enter_context(
            unittest.mock.patch.object(modeling_llama, "apply_rotary_pos_emb", rotate))
        yield


def generate(model, prompt, max_tokens):
    """Greedy tokens up to the end of the answer, or up to the first that was nearly another."""
    answer = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=max_tokens,
                            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                            output_logits=True, return_dict_in_generate=True, pad_token_id=0)
    tokens = answer.sequences[0, len(prompt):].tolist()
    for i, logits in enumerate(answer.logits):
        best, second = logits[0].topk(2).values
        if best - second < MIN_MARGIN:
            return tokens[:i]
    return tokens


def run_case(case, model, tokenizer):
    prompt = encode_prompt(case, tokenizer)
    tokens = generate(model, prompt, case["max_tokens"])
    positions = [*range(STRIDE - 1, len(prompt) - 1, STRIDE),
                 *range(len(prompt) - 1, len(prompt) + len(tokens) - 1)]
    inputs = torch.tensor([prompt + tokens])
    exact = model(inputs).logits[0, positions]
    squares = torch.zeros_like(exact)
    with rounding_errors(model):
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            squares += (model(inputs).logits[0, positions] - exact) ** 2
    rms = (squares / SEEDS).sqrt()
    top = exact.topk(NUM_TOP).indices
    print(f"{case['name']}: {len(prompt)} tokens, rms of errors {rms.gather(1, top).mean():.4f}: "
          f"{tokenizer.decode(tokens)}")
    return {
        "name": case["name"], "prompt": prompt, "tokens": tokens,
        "logits": [{"position": position,
                    "top": [[token, round(exact[row, token].item(), 5),
                             round(rms[row, token].item(), 5)] for token in top[row].tolist()]}
                   for row, position in enumerate(positions)]}


def check_chat_template(case, chat_tokenizer, tokenizer):
    """transformers makes the same tokens of a conversation as encode_prompt does."""
    messages = [{"role": "system", "content": case["document"]},
                {"role": "user", "content": case["question"]}]
    ids = chat_tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    whole = {key: value for key, value in case.items() if key != "align_to"}
    assert ids == encode_prompt(whole, tokenizer), case["name"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("--prompts", type=pathlib.Path,
                        default=pathlib.Path(__file__).with_name("golden_prompts.json"))
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(
        args.model_dir, dtype=torch.float32, attn_implementation="eager").eval()
    assert isinstance(model, modeling_llama.LlamaForCausalLM)
    chat_tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    tokenizer = sentencepiece.SentencePieceProcessor(
        model_file=str(args.model_dir / "tokenizer.model"))
    prompts = json.loads(args.prompts.read_text(encoding="utf-8"))
    prompts += [{**case, "name": case["name"] + "_2", "question": MORE_QUESTIONS[case["name"]]}
                for case in prompts if case["name"] in MORE_QUESTIONS]
    for case in prompts:
        check_chat_template(case, chat_tokenizer, tokenizer)
    with torch.inference_mode():
        cases = [run_case(case, model, tokenizer) for case in prompts
                 if len(encode_prompt(case, tokenizer)) <= MAX_PROMPT]
    assert sum(len(case["tokens"]) for case in cases) >= NUM_GENERATED, "too many close calls"
    chat = {"messages": DIALOGUE,
            "tokens": chat_tokenizer.apply_chat_template(DIALOGUE, add_generation_prompt=True,
                                                         return_dict=False)}
    lines = ",\n".join(json.dumps(case) for case in cases)
    (args.model_dir / "hf_logits.json").write_text(
        '{"made_by": "models/tools/make_hf_golden.py",\n"chat": ' + json.dumps(chat)
        + ',\n"cases": [\n' + lines + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
