#!/usr/bin/env python3
"""tokenizer.json of a model folder, made from its tokenizer.model, for Hugging Face transformers.

    pip install tokenizers sentencepiece protobuf
    python3 models/tools/make_tokenizer_json.py models/quire-6m

transformers would build a Llama tokenizer of tokenizer.model by itself, but one that does not normalise: line
breaks and runs of spaces would become tokens that the model has never seen. tokenizer.json says everything, so
AutoTokenizer reads texts as Quire does. Quire itself reads tokenizer.model.
"""

import argparse
import json
import pathlib

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

Piece = sentencepiece_model_pb2.ModelProto.SentencePiece


def merges_of(pieces):
    """All pairs of pieces that are a piece together, in the order in which SentencePiece prefers them."""
    score = {piece.piece: piece.score for piece in pieces if piece.type == Piece.NORMAL}
    pairs = []
    for whole in score:
        for cut in range(1, len(whole)):
            left, right = whole[:cut], whole[cut:]
            if left in score and right in score:
                pairs.append((-score[whole], -score[left], -score[right], left, right))
    return [(left, right) for *_, left, right in sorted(pairs)]


def tokenizer_of(proto):
    assert proto.trainer_spec.model_type == proto.trainer_spec.BPE and proto.trainer_spec.byte_fallback
    spec = proto.normalizer_spec
    assert spec.add_dummy_prefix and spec.remove_extra_whitespaces and spec.escape_whitespaces
    vocabulary = {piece.piece: token for token, piece in enumerate(proto.pieces)}
    unknown = proto.pieces[proto.trainer_spec.unk_id].piece
    tokenizer = Tokenizer(BPE(vocabulary, merges_of(proto.pieces), unk_token=unknown, fuse_unk=True,
                              byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(spec.precompiled_charsmap),
        normalizers.Replace(Regex(" {2,}"), " "),
        normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(content=" ", left=1)])
    tokenizer.add_special_tokens([
        AddedToken(piece.piece, special=True, normalized=False) for piece in proto.pieces
        if piece.type in (Piece.CONTROL, Piece.USER_DEFINED, Piece.UNKNOWN)])
    begin = proto.trainer_spec.bos_id
    name = proto.pieces[begin].piece
    tokenizer.post_processor = TemplateProcessing(
        single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, begin)])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", type=pathlib.Path)
    folder = parser.parse_args().model_dir
    proto = sentencepiece_model_pb2.ModelProto.FromString((folder / "tokenizer.model").read_bytes())
    tokenizer_of(proto).save(str(folder / "tokenizer.json"), pretty=False)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # the one that takes tokenizer.json as it is
    config.pop("legacy", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n",
                                                  encoding="utf-8")


if __name__ == "__main__":
    main()
