#!/usr/bin/env python3
"""What bfloat16 costs PyTorch + transformers (sdpa) on the inputs that ours gets, and at true shapes ours beside it: JSON lines.
usage: agreement.py golden --data GOLDEN [--device cuda|cpu] [--only PART OF A NAME]
       agreement.py shape NAME [--device cuda|cpu] [--reference auto|float64|float32] -- COMMAND OF OURS ...

golden: relative error of PyTorch in bfloat16 against the golden data, for each quantity of a case of golden.ts.
shape: random weights of a published shape and sequences of several lengths. COMMAND is run with the folder that holds
both and writes log-probabilities and gradients into it (gradients.ts). Both sides are held against PyTorch in float64
with the same bfloat16 weights (float32 where that does not fit). transformers keeps norms and rotary tables in float32
even then: an error of 1e-7, where bfloat16 has 1e-3 and more.

Sequences are the rows of a batch padded on the right: under a causal mask what stands behind a row's end changes
nothing before it, so no mask and no packing of transformers' own is needed."""
import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

SHAPES = {
    "nano": dict(vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 head_dim=64, intermediate_size=192),
    "qwen3-0.6b": dict(vocab_size=151936, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16,
                       num_key_value_heads=8, head_dim=128, intermediate_size=3072),
    "qwen3-4b": dict(vocab_size=151936, hidden_size=2560, num_hidden_layers=36, num_attention_heads=32,
                     num_key_value_heads=8, head_dim=128, intermediate_size=9728),
}
# No multiples of a tile, one of a single token.
LENGTHS = {"nano": [70, 1, 33], "qwen3-0.6b": [1000, 1, 389, 700], "qwen3-4b": [1000, 1, 389]}
PAD = 0


def emit(**line):
    print(json.dumps(line), flush=True)


def padded(sequences, device):
    longest = max(map(len, sequences))
    return torch.tensor([s + [PAD] * (longest - len(s)) for s in sequences], device=device)


def token_logprobs(model, sequences, temperature=1.0):
    """Logits of the padded batch, and for every sequence the log-probabilities of its tokens but the first."""
    ids = padded(sequences, model.device)
    logits = model(input_ids=ids, use_cache=False).logits
    wide = logits if logits.dtype == torch.float64 else logits.float()
    targets = ids[:, 1:, None]
    # One row at a time: of a whole batch in float64 the vocabulary would fill the memory.
    rows = [torch.log_softmax(wide[i, : len(s) - 1] / temperature, -1).gather(-1, targets[i, : len(s) - 1])[:, 0]
            for i, s in enumerate(sequences)]
    return logits, rows


class Error:
    """||a - b|| / ||b|| over all that was added."""

    def __init__(self):
        self.difference = self.norm = 0.0

    def add(self, actual, expected):
        expected = expected.double().flatten()
        self.difference += (actual.detach().double().flatten().to(expected.device) - expected).square().sum().item()
        self.norm += expected.square().sum().item()

    @property
    def value(self):
        return math.sqrt(self.difference / self.norm) if self.norm > 0 else (0.0 if self.difference == 0 else math.inf)


class Errors(dict):
    flipped = 0  # tokens on another branch of a loss than they should be

    def __missing__(self, name):
        self[name] = Error()
        return self[name]

    def values_by_name(self):
        return {name: error.value for name, error in self.items()}


# ---- the golden data


def load(folder, device, config=None):
    more = {} if config is None else {"config": transformers.AutoConfig.from_pretrained(config)}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa", **more)
    return model.to(device).train()


def forward_case(data, name, device):
    case = json.loads((data / f"forward/{name}.json").read_text())
    tensors = load_file(data / f"forward/{name}.safetensors")
    with torch.no_grad():
        logits, logprobs = token_logprobs(load(data / "checkpoints" / name, device), case["sequences"])
    errors = Errors()
    for i, row in enumerate(logprobs):
        if len(row) > 0:
            errors["logprobs"].add(row, tensors[f"logprobs_t1.{i}"])
        positions = case["logit_positions"].get(str(i), [])
        if positions:
            errors["logits"].add(logits[i, positions], tensors[f"logits.{i}"])
    return errors


def gradient_case(data, name, device):
    golden = json.loads((data / f"grads/{name}.nll.json").read_text())
    tensors = load_file(data / f"grads/{name}.nll.safetensors")
    sequences = json.loads((data / f"forward/{name}.json").read_text())["sequences"]
    model = load(data / "checkpoints" / name, device)
    (-torch.cat(token_logprobs(model, sequences)[1]).sum() / golden["target_tokens"]).backward()
    errors, gradients = Errors(), gradients_of(model)
    for parameter in golden["params"]:
        gradient = gradients[parameter].flatten()
        if golden["storage"] == "full":
            errors[parameter].add(gradient, tensors[parameter])
        else:
            index = tensors[f"{parameter}::idx"].long().to(gradient.device)
            errors[parameter].add(gradient[index], tensors[f"{parameter}::val"])
    return errors


def gradients_of(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def grpo_weights(golden, advantages):
    """For each sequence, weight and advantage of its tokens but the first."""
    weights = [torch.zeros(len(s["tokens"]), dtype=torch.float64) for s in golden["sequences"]]
    signs = [torch.zeros_like(w) for w in weights]
    for group, of_group in zip(golden["groups"], advantages):
        for rollout, advantage in zip(group["rollouts"], of_group):
            for agent in rollout["agents"]:
                masks = {t: torch.tensor(golden["sequences"][t]["response_mask"], dtype=torch.bool)
                         for t in agent["turns"]}
                trained = sum(int(mask.sum()) for mask in masks.values())
                for turn, mask in masks.items():
                    weights[turn][mask] = 1 / (len(golden["groups"]) * len(group["rollouts"])
                                               * len(rollout["agents"]) * trained)
                    signs[turn][mask] = advantage
    return [w[1:] for w in weights], [s[1:] for s in signs]


def grpo_case(data, name, device):
    golden = json.loads((data / "grpo/grpo.json").read_text())
    config = golden["configs"][name]
    if not config["grad_full"]:
        return Errors()  # it has but the norm of the gradient, one number of which no ratio of errors can be asked
    tensors = load_file(data / "grpo/grpo.safetensors")
    expected = load_file(data / f"grpo/grads.{name}.safetensors")
    model = load(data / "checkpoints/qwen3-nano", device)
    sequences = [s["tokens"] for s in golden["sequences"]]

    def tokens_of(values):
        return torch.cat([row[1:] for row in torch.split(values, [len(s) for s in sequences])]).to(device).float()

    weight, advantage = (torch.cat(rows).to(device).float() for rows in grpo_weights(golden, config["advantages"]))
    logprob = torch.cat(token_logprobs(model, sequences, config["temperature"])[1])
    old = tokens_of(tensors["old_logprobs" if config["temperature"] == 1 else "old_logprobs_t07"])
    ratio = torch.exp(torch.where(weight > 0, logprob - old, 0))
    clipped = ratio.clamp(1 - golden["clip_low"], 1 + golden["clip_high"])
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    if config["dual_clip_c"] is not None:
        gain = torch.where(advantage < 0, torch.maximum(gain, config["dual_clip_c"] * advantage), gain)
    loss = -gain
    if config["kl_beta"] > 0:
        behind = torch.where(weight > 0, tokens_of(tensors["ref_logprobs"]) - logprob, 0)
        loss = loss + config["kl_beta"] * (behind.exp() - behind - 1)
    (weight * loss).sum().backward()
    errors = Errors()
    branches = [branch(r, advantage, golden, config)[weight > 0] for r in (ratio, tokens_of(tensors["ratio"]))]
    errors.flipped = int((branches[0] != branches[1]).sum())
    for parameter, gradient in gradients_of(model).items():
        errors[parameter].add(gradient, expected[parameter])
    return errors


def branch(ratio, advantage, golden, config):
    """Of the loss, for each token; where rounding changes it, the gradient jumps."""
    clipped = torch.where(advantage > 0, ratio > 1 + golden["clip_high"], ratio < 1 - golden["clip_low"])
    dual = (advantage < 0) & (ratio > (config["dual_clip_c"] or math.inf))
    return clipped.int() + 2 * dual.int()


def yarn_case(data, device):
    tokens = json.loads((data / "rope/rope.json").read_text())["yarn_model"]["tokens"]
    model = load(data / "checkpoints/qwen3-nano", device, data / "rope/config.yarn.json")
    errors = Errors()
    with torch.no_grad():
        logprobs = token_logprobs(model, [tokens])[1][0]
    errors["logprobs"].add(logprobs, load_file(data / "rope/rope.safetensors")["yarn_model.logprobs"])
    return errors


def golden(data, device, only):
    trainable = ["qwen2-nano", "qwen3-hd128", "qwen3-micro", "qwen3-nano"]
    cases = {f"forward {name}": (forward_case, name) for name in [*trainable, "qwen3moe-nano"]}
    cases |= {f"gradients {name}": (gradient_case, name) for name in trainable}
    cases |= {f"grpo {name}": (grpo_case, name)
              for name in json.loads((data / "grpo/grpo.json").read_text())["configs"]}
    for case, (run, name) in cases.items():
        if only in case:
            errors = run(data, name, device)
            emit(peer_golden=case, device=device, errors=errors.values_by_name(), flipped=errors.flipped)
    if only in "yarn qwen3-nano":
        emit(peer_golden="yarn qwen3-nano", device=device, errors=yarn_case(data, device).values_by_name())


# ---- true shapes


def roomy_folder(num_bytes):
    """Memory before disk: gigabytes are written and read once."""
    tried = []
    for base in ("/dev/shm", tempfile.gettempdir()):
        if not Path(base).is_dir():
            continue
        folder = Path(base) / "wideseek-agreement"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        free = shutil.disk_usage(base).free
        if free > num_bytes:
            folder.mkdir()
            return folder
        tried.append(f"{base} has {free / 1e9:.1f} GB")
    raise RuntimeError(f"no folder with {num_bytes / 1e9:.1f} GB for weights and gradients: {', '.join(tried)}")


def random_model(shape, device):
    config = transformers.Qwen3Config(
        **SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=40960, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, bos_token_id=None, eos_token_id=None,
        pad_token_id=PAD)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    generator = torch.Generator(device).manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # a norm: near 1, but none equal
                parameter.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator, device=device))
            else:
                parameter.normal_(0, 0.02, generator=generator)
    return model.train()


def run_pass(model, sequences):
    """Log-probabilities of all targets in order, and the gradients of their mean with the sign turned."""
    model.zero_grad(set_to_none=True)
    model.gradient_checkpointing_enable()  # the same numbers, and room for float64
    logprobs = torch.cat(token_logprobs(model, sequences)[1])
    (-logprobs.mean()).backward()
    return logprobs.detach(), gradients_of(model)


def reference_dtype(wanted, device, parameters):
    if wanted != "auto":
        return {"float64": torch.float64, "float32": torch.float32}[wanted]
    if device == "cpu":
        return torch.float64
    # Weights and gradients, PyTorch's gradients in bfloat16, and what a pass keeps.
    free, _ = torch.cuda.mem_get_info()
    free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.float64 if free > 14 * parameters + 22e9 else torch.float32


def shape_case(shape, device, wanted, command):
    torch.backends.cuda.matmul.allow_tf32 = False
    start, seconds = time.monotonic(), {}
    model = random_model(shape, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    generator = torch.Generator().manual_seed(2)
    sequences = [torch.randint(0, SHAPES[shape]["vocab_size"], (n,), generator=generator).tolist()
                 for n in LENGTHS[shape]]
    folder = roomy_folder(6.2 * parameters)
    try:
        model.save_pretrained(folder)
        (folder / "batch.json").write_text(json.dumps({"sequences": sequences}))
        seconds["weights"] = time.monotonic() - start
        ours = subprocess.Popen([*command, "--folder", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)
        try:
            logprobs, gradients = run_pass(model, sequences)
            said, _ = ours.communicate()  # before the reference: both at once would not fit
        finally:
            ours.kill()
        if ours.returncode != 0:
            raise RuntimeError(f"ours ended with {ours.returncode}: {said.strip()[-1500:]}")
        seconds["ours"] = time.monotonic() - start - seconds["weights"]
        shutil.rmtree(folder / "weights", ignore_errors=True)
        model.zero_grad(set_to_none=True)
        if device != "cpu":
            torch.cuda.empty_cache()
        dtype = reference_dtype(wanted, device, parameters)
        expected_logprobs, expected = run_pass(model.to(dtype), sequences)

        def read(name, like):
            values = torch.from_file(str(folder / f"{name}.f32"), size=like.numel(), dtype=torch.float32)
            return values.to(like.device)

        # Quantity: error of ours, error of PyTorch.
        errors = {"logprobs": both_errors(read("logprobs", expected_logprobs), logprobs, expected_logprobs)}
        for name, gradient in gradients.items():
            errors[name] = both_errors(read(name, gradient), gradient, expected[name])
    finally:
        shutil.rmtree(folder)
    seconds["all"] = time.monotonic() - start
    emit(agreement=shape, device=device, reference=str(dtype).removeprefix("torch."), lengths=LENGTHS[shape],
         torch=torch.__version__, transformers=transformers.__version__,
         seconds={part: round(value, 1) for part, value in seconds.items()}, errors=errors)


def both_errors(ours, peer, expected):
    pair = []
    for actual in (ours, peer):
        error = Error()
        # A part at a time: the embedding in float64 would need as much again.
        for some, of_expected in zip(actual.flatten().split(1 << 26), expected.flatten().split(1 << 26)):
            error.add(some, of_expected)
        pair.append(error.value if math.isfinite(error.value) else None)  # JSON has no infinity
    return pair


def main():
    mine, command = sys.argv[1:], []
    if "--" in mine:
        mine, command = mine[: mine.index("--")], mine[mine.index("--") + 1 :]
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["golden", "shape"])
    parser.add_argument("name", nargs="?", choices=list(SHAPES))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--reference", default="auto", choices=["auto", "float64", "float32"])
    parser.add_argument("--only", default="")
    options = parser.parse_args(mine)
    if options.task == "golden":
        if options.data is None:
            parser.error("golden needs --data")
        golden(options.data, options.device, options.only)
    else:
        if options.name is None or not command:
            parser.error("shape needs a NAME and, behind --, the command of ours")
        shape_case(options.name, options.device, options.reference, command)


if __name__ == "__main__":
    main()
