"""The tensors of a Llama with tied embeddings. Standard library only."""


def tensor_shapes(config):
    """{name: shape} for a Hugging Face config, in the order that the files have."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    q_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (hidden,),
                "self_attn.q_proj": (q_width, hidden),
                "self_attn.k_proj": (kv_width, hidden),
                "self_attn.v_proj": (kv_width, hidden),
                "self_attn.o_proj": (hidden, q_width),
                "post_attention_layernorm": (hidden,),
                "mlp.gate_proj": (inner, hidden),
                "mlp.up_proj": (inner, hidden),
                "mlp.down_proj": (hidden, inner),
            }.items()
        }
    return shapes | {"model.norm.weight": (hidden,)}
