"""Writes a checkpoint as a Hugging Face folder: config, bf16 weights, tokenizer, template.

The weights are the running mean that training keeps, or the mean of several checkpoints', with the absent answer
lowered (calibrate.py).
"""

import argparse
import json
import pathlib
import shutil
import struct

import torch

import data
import facts
from calibrate import lower_absent
from model import Config, Model

# The system message is the document. What stands right before a question has its say in the answer, and should not
# be whatever a document ends with.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    " " + data.DOCUMENT_END + "{% elif m.role == 'user' %}<|user|>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}<|end|>"
    "{% else %}{{ raise_exception('no place for the role ' + m.role) }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# A prompt's tokens look nearby: half of the blocks that they had in training bring the same answers.
TOP_K = 4
# Of answers' tokens: all blocks that any of training's sequences had.
DECODE_TOP_K = 128
# Taken from the absent answer's first logit: README, item 37.
ABSENT_BELOW = 1.0
END = 6  # <|end|>, the fourth of the special pieces behind <unk>, <s> and </s>


def hugging_face_name(name: str) -> str:
    for old, new in (
        ("attention.", "self_attn."),
        ("input_norm", "input_layernorm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("embed.", "embed_tokens."),
    ):
        name = name.replace(old, new)
    if name.startswith("layers.") and name.split(".")[2] in ("gate_proj", "up_proj", "down_proj"):
        layer, index, rest = name.split(".", 2)
        name = f"{layer}.{index}.mlp.{rest}"
    return "model." + name


def write_safetensors(tensors: dict[str, torch.Tensor], path: pathlib.Path) -> None:
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        blob = tensor.bfloat16().contiguous().view(torch.int16).cpu().numpy().tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def config_json(config: Config) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": config.theta,
        "max_position_embeddings": 1 << 24,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": END,
        "moba": {
            "block_size": config.block,
            "top_k": TOP_K,
            "decode_top_k": DECODE_TOP_K,
            "full_attention_layers": [],
            "prefill": "moba",
            "decode": "moba",
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, help="of the training: tokenizer and filler"
    )
    parser.add_argument("--absent-below", type=float, default=ABSENT_BELOW)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    saved = [torch.load(path, map_location=device) for path in args.checkpoint]
    every = [one.get("smooth", one["model"]) for one in saved]
    model = Model(Config(**saved[0]["config"])).to(device)
    model.load_state_dict({name: sum(one[name] for one in every) / len(every) for name in every[0]})
    lower_absent(model, data.Corpus(args.data, facts.TRAIN), args.absent_below)
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {hugging_face_name(name): tensor for name, tensor in model.state_dict().items()}
    write_safetensors(tensors, args.out / "model.safetensors")
    config = json.dumps(config_json(model.config), indent=1)
    (args.out / "config.json").write_text(config + "\n", encoding="utf-8")
    tokenizer = {
        "bos_token": "<s>",
        "eos_token": "<|end|>",
        "add_bos_token": True,
        "tokenizer_class": "LlamaTokenizer",
        "legacy": True,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(tokenizer, indent=1)
    (args.out / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(args.data / "tokenizer.model", args.out / "tokenizer.model")


if __name__ == "__main__":
    main()
