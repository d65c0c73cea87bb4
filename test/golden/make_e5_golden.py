"""Makes test/golden/e5: a small random BERT as ONNX, its tokenizer, and embeddings that torch computes in float64.

Run by hand: python3 make_e5_golden.py (torch 2.14, transformers 5.12, tokenizers). Seed 0.
The golden pools and normalises in plain loops over the tokens of one text at a time: no padding, no batch.
"""
import json
import os
import torch
from torch.onnx._internal.torchscript_exporter import onnx_proto_utils
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "e5")
MAX_TOKENS = 48
TEXTS = [
    "query: who wrote the opera about the last voyage",
    "query: Zürich",
    "passage: The lake freezes in winter ; boats stay ashore until the thaw , and the ferry rests .",
    "passage: " + "a long tale of rivers , roads and towns that goes on and on " * 9,
    "passage: 東京 and [SEP] <|im_end|>",
    "query: ",
]
tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special))
cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
tokenizer.save(os.path.join(here, "tokenizer.json"))

torch.manual_seed(0)
config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=64, max_position_embeddings=64, hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0, attn_implementation="eager")
model = BertModel(config, add_pooling_layer=False).eval()
with torch.no_grad():
    for parameter in model.parameters():
        # Larger than the usual 0.02, so that every part of the network shows in the result.
        parameter.add_(torch.randn_like(parameter) * 0.2)

double = BertModel(config, add_pooling_layer=False).eval().double()
double.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
tokenizer.enable_truncation(MAX_TOKENS)
golden = []
for text in TEXTS:
    ids = tokenizer.encode(text).ids
    with torch.no_grad():
        hidden = double(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).last_hidden_state[0]
    mean = [sum(float(hidden[t, j]) for t in range(len(ids))) / len(ids) for j in range(32)]
    norm = sum(x * x for x in mean) ** 0.5
    golden.append({"text": text, "ids": ids, "embedding": [x / norm for x in mean]})
json.dump({"maxTokens": MAX_TOKENS, "cases": golden}, open(os.path.join(here, "golden.json"), "w"))

class Exported(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model
    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state

# Adds functions of onnxscript to the model, of which this one has none; needs the package `onnx` even so.
onnx_proto_utils._add_onnxscript_fn = lambda proto, _: proto
ids = torch.ones(2, 7, dtype=torch.long)
axes = {0: "batch", 1: "tokens"}
torch.onnx.export(Exported(), (ids, torch.ones_like(ids), torch.zeros_like(ids)), os.path.join(here, "model.onnx"),
                  input_names=["input_ids", "attention_mask", "token_type_ids"], output_names=["last_hidden_state"],
                  dynamic_axes={"input_ids": axes, "attention_mask": axes, "token_type_ids": axes, "last_hidden_state": axes},
                  opset_version=17, dynamo=False)
print({name: os.path.getsize(os.path.join(here, name)) for name in os.listdir(here)})
