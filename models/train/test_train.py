"""pytest models/train: the operator against a dense product, the labels, the exported names."""

import pathlib
import random

import pytest
import torch

import facts
from attention import centroids, masked_attention, select, sparse_attention
from calibrate import lower
from export import hugging_face_name
from model import Bank, Config, Model, rope_table, rotate
from train import MOST_PROCESSES, STAGES, held, main


def test_sparse_attention_matches_dense_product():
    torch.manual_seed(0)
    block, weights = 32, torch.randn(2, 256, 4, 64)
    inputs = [
        torch.randn(2, 256, heads, 64).bfloat16().float().requires_grad_() for heads in (4, 2, 2)
    ]
    sel = select(inputs[0].detach(), centroids(inputs[1].detach(), block), block, 4, None)
    results = []
    for attend in (sparse_attention, masked_attention):
        out, lse = attend(*inputs, sel, block)
        results.append(
            [out, lse, *torch.autograd.grad((out * weights).sum() + lse.sin().sum(), inputs)]
        )
    for fast, exact in zip(*results):
        assert (fast - exact).norm() < 0.01 * exact.norm()


def test_sparse_attention_holds_any_logits():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 256, heads, 64) for heads in (4, 2, 2))
    q, k = (100 * q).requires_grad_(), k.requires_grad_()
    sel = select(q.detach(), centroids(k.detach(), 32), 32, 4, None)
    out, lse = sparse_attention(q, k, v, sel, 32)
    gradients = torch.autograd.grad(out.sum() + lse.sum(), (q, k))
    assert all(part.isfinite().all() for part in (out, lse, *gradients))
    exact = masked_attention(q, k, v, sel, 32)[1]
    assert lse.std() > 50 and (lse - exact).norm() < 0.01 * exact.norm()


def test_selection_keeps_top_k_and_never_looks_ahead():
    torch.manual_seed(0)
    q, k = torch.randn(1, 512, 2, 64), torch.randn(1, 512, 1, 64)
    sel = select(q, centroids(k, 32), 32, 4, None)
    own = torch.arange(512) // 32
    assert torch.equal(sel.sum(-1), own.clamp(max=3).expand(1, 2, -1))
    assert not (sel & (torch.arange(16)[None] >= own[:, None])).any()


def test_selection_takes_a_top_k_of_every_token():
    torch.manual_seed(0)
    q, k = torch.randn(1, 512, 2, 64), torch.randn(1, 512, 1, 64)
    cent, top_k = centroids(k, 32), torch.where(torch.arange(512) % 2 == 0, 4, 9)[None]
    sel = select(q, cent, 32, top_k, None)
    for first, count in ((0, 4), (1, 9)):
        alike = select(q, cent, 32, count, None)
        assert torch.equal(sel[:, :, first::2], alike[:, :, first::2])


def test_bank_has_the_centroids_of_blocks_that_say_the_same():
    config = Config(layers=1)
    inputs, weight = torch.randn(1, 8, config.dim), torch.randn(config.head_dim, config.dim)
    bank, mean = Bank(config, (8, 8)), inputs.mean((0, 1))
    bank.push(inputs, torch.tensor([False] * 4 + [True] * 4))
    start = torch.arange(8) * 5000
    bank.place(50_000, start[None])
    place = start[:, None] + torch.arange(config.block)
    cos, sin = (x[:, :, None] for x in rope_table(place, config))
    keys = (inputs[0] @ weight.t())[:, None, None].expand(-1, config.block, 1, -1)
    expected = centroids(rotate(keys, cos, sin), config.block)[:, 0, 0]
    assert torch.allclose(bank.centroids(0, mean, weight, 1)[0], expected, atol=0.3)  # inputs in bf16
    assert expected.std() > 10


def test_seekers_look_at_any_distance_and_learn_alone():
    torch.manual_seed(0)
    model = Model(Config(vocab=64))
    model.look_at_any_distance()
    seeker, x = model.layers[2].attention, torch.randn(2, 384)
    query, key = (
        weight.view(-1, 64, 384)[0] @ side
        for weight, side in ((seeker.q_proj.weight, x[0]), (seeker.k_proj.weight, x[1]))
    )
    near, far = (rope_table(torch.tensor(distance), model.config) for distance in (3, 1_000_000))
    scores = [rotate(query, *turn) @ key for turn in (near, far)]
    assert abs(scores[0] - scores[1]) < 0.05 * query.norm() * key.norm()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    with held(model, model.seeking()), torch.no_grad():
        for weight in model.parameters():
            weight += weight.grad + 1.0
    changed = {n for n, weight in model.named_parameters() if not torch.equal(weight, before[n])}
    assert changed == {f"layers.{i}.attention.{part}_proj.weight" for i in (2, 3) for part in "qk"}
    moved = (seeker.q_proj.weight != before["layers.2.attention.q_proj.weight"]).all(1).view(4, 64)
    assert moved.sum() == 2 * 48 and not moved[2:].any()


@pytest.mark.parametrize("split", [facts.TRAIN, facts.HELD_OUT])
def test_facts_are_distinct_and_told_whole(split):
    made = facts.make_facts(random.Random(1), 200, split)
    assert len({fact.key for fact in made}) == 200
    for fact in made:
        rng = random.Random(fact.value)
        for template in facts.TOLD[split] + [facts.composed(rng) for _ in range(5)]:
            template = facts.dressed(rng, template)
            assert fact.value in fact.fill(template)
            assert fact.entity[1:] in fact.fill(template)


def test_lowered_row_has_its_logits_lowered_and_hardly_moves():
    torch.manual_seed(0)
    hidden, row = 3.0 + torch.randn(50, 384), torch.randn(384)
    lowered = row.clone()
    lower(lowered, hidden, 2.5)
    fallen = hidden @ row - hidden @ lowered
    assert abs(fallen.mean() - 2.5) < 1e-3 and fallen.std() < 0.1
    assert (lowered - row).norm() < 1.001 * 2.5 / hidden.mean(0).norm()


def test_exported_names_are_those_of_a_llama():
    names = {hugging_face_name(name) for name in Model(Config(vocab=8, layers=1)).state_dict()}
    layer = "model.layers.0."
    assert names == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        layer + "input_layernorm.weight",
        layer + "post_attention_layernorm.weight",
        *(layer + f"self_attn.{part}_proj.weight" for part in "qkvo"),
        *(layer + f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
    }


def test_every_process_has_a_sequence_of_every_step(monkeypatch, capsys, tmp_path):
    assert all(len(range(MOST_PROCESSES - 1, s.sequences, MOST_PROCESSES)) for s in STAGES)
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "model.pt"), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["train.py", *arguments, "--processes", str(MOST_PROCESSES + 1)])
    with pytest.raises(SystemExit):
        main()
    assert f"--processes: 1 to {MOST_PROCESSES}" in capsys.readouterr().err
