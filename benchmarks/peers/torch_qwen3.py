#!/usr/bin/env python3
"""Qwen3 in plain PyTorch (1.13 or newer) on the CPU, a peer for the benchmarks where transformers is not installed.

Reads one JSON request a line on stdin, writes one JSON reply a line on stdout:
  {"op": "load", "shape": {...}, "threads": 2}
  {"op": "train", "batch": 8, "length": 512}        one step: forward, backward, clip, AdamW
  {"op": "logprob", "batch": 4, "length": 512}
  {"op": "generate", "batch": 32, "prompt": 128, "new": 64}   greedy, preallocated KV cache
  {"op": "grpo", "prompts": 4, "group": 8, "prompt": 64, "new": 64}
Replies carry seconds, measured around the work alone, and the peak memory of the process in bytes.
"""
import json
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def causal_attention(q, k, v):
    """q, k, v [B, H, T, D]; causal. The fused kernel where this torch has one."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    length = q.shape[2]
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v


class RMSNorm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def rotate(x, cos, sin):
    """Half-split rotary embedding; cos, sin [T, D]."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, self.kv_heads, self.dim = shape["num_heads"], shape["num_kv_heads"], shape["head_dim"]
        hidden = shape["hidden_size"]
        self.q_proj = nn.Linear(hidden, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, hidden, bias=False)
        self.q_norm = RMSNorm(self.dim, shape["rms_norm_eps"])
        self.k_norm = RMSNorm(self.dim, shape["rms_norm_eps"])

    def forward(self, x, cos, sin, cache, start):
        batch, length, _ = x.shape
        split = lambda t, heads: t.view(batch, length, heads, self.dim)
        q = rotate(self.q_norm(split(self.q_proj(x), self.heads)).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(split(self.k_proj(x), self.kv_heads)).transpose(1, 2), cos, sin)
        v = split(self.v_proj(x), self.kv_heads).transpose(1, 2)
        group = self.heads // self.kv_heads
        if cache is not None:
            cache[0][:, :, start : start + length] = k
            cache[1][:, :, start : start + length] = v
        if cache is not None and start > 0:
            # One new token a sequence: the query heads of a group share their keys without a copy.
            k, v = cache[0][:, :, : start + 1], cache[1][:, :, : start + 1]
            grouped = q.view(batch, self.kv_heads, group, self.dim)
            weights = (grouped @ k.transpose(-1, -2) * self.dim**-0.5).softmax(-1)
            out = (weights @ v).view(batch, self.heads, 1, self.dim)
        else:
            out = causal_attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        hidden, intermediate, epsilon = shape["hidden_size"], shape["intermediate_size"], shape["rms_norm_eps"]
        self.input_norm, self.post_norm = RMSNorm(hidden, epsilon), RMSNorm(hidden, epsilon)
        self.attention = Attention(shape)
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x, cos, sin, cache, start):
        x = x + self.attention(self.input_norm(x), cos, sin, cache, start)
        h = self.post_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Qwen3(nn.Module):
    """Tied embeddings."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape["vocab_size"], shape["hidden_size"])
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape["num_layers"]))
        self.norm = RMSNorm(shape["hidden_size"], shape["rms_norm_eps"])
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        dim = shape["head_dim"]
        frequencies = 1.0 / shape["rope_theta"] ** (torch.arange(0, dim, 2).float() / dim)
        angles = torch.outer(torch.arange(4096).float(), frequencies)
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids, caches=None, start=0):
        """Final hidden states [B, T, C]."""
        x = self.embed(ids)
        cos, sin = self.cos[start : start + ids.shape[1]], self.sin[start : start + ids.shape[1]]
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, caches[index] if caches else None, start)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embed.weight)

    def new_caches(self, batch, length):
        size = (batch, self.shape["num_kv_heads"], length, self.shape["head_dim"])
        return [(torch.zeros(size), torch.zeros(size)) for _ in self.layers]


def token_logprobs(logits, ids):
    """Row by row, so that no second [T, V] matrix stays alive."""
    rows = []
    for row, targets in zip(logits, ids):
        rows.append(row.gather(1, targets[:, None])[:, 0] - torch.logsumexp(row, -1))
    return torch.stack(rows)


class Peer:
    def load(self, shape, threads):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.model = Qwen3(shape)
        fused = {"fused": True} if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4) else {"foreach": True}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, weight_decay=0.01, **fused)
        self.generator = torch.Generator().manual_seed(1)
        return {"torch": torch.__version__, "parameters": sum(p.numel() for p in self.model.parameters())}

    def random_ids(self, batch, length):
        return torch.randint(1, self.model.shape["vocab_size"], (batch, length), generator=self.generator)

    def update(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def train(self, batch, length):
        ids = self.random_ids(batch, length)
        start = time.perf_counter()
        logits = self.model.logits(self.model(ids)[:, :-1])
        F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)).backward()
        del logits
        self.update()
        return {"seconds": time.perf_counter() - start}

    def logprob(self, batch, length):
        ids = self.random_ids(batch, length)
        start = time.perf_counter()
        with torch.no_grad():
            token_logprobs(self.model.logits(self.model(ids)[:, :-1]), ids[:, 1:])
        return {"seconds": time.perf_counter() - start}

    def decode_all(self, ids, new, sample):
        """Returns [B, P + new] ids and the seconds until the first new token."""
        batch, prompt = ids.shape
        start = time.perf_counter()
        out = [ids]
        with torch.no_grad():
            caches = self.model.new_caches(batch, prompt + new)
            hidden = self.model(ids, caches)[:, -1:]
            first = 0.0
            for index in range(new):
                logits = self.model.logits(hidden)[:, -1]
                token = torch.multinomial(logits.softmax(-1), 1) if sample else logits.argmax(-1, keepdim=True)
                out.append(token)
                if index == 0:
                    first = time.perf_counter() - start
                if index + 1 < new:
                    hidden = self.model(token, caches, prompt + index)
        return torch.cat(out, 1), first

    def generate(self, batch, prompt, new):
        ids = self.random_ids(batch, prompt)
        start = time.perf_counter()
        _, first = self.decode_all(ids, new, sample=False)
        total = time.perf_counter() - start
        return {"seconds": total, "prefillSeconds": first, "decodeSeconds": total - first}

    def grpo(self, prompts, group, prompt, new):
        ids = self.random_ids(prompts, prompt).repeat_interleave(group, 0)
        start = time.perf_counter()
        sequences, _ = self.decode_all(ids, new, sample=True)
        generated = time.perf_counter()
        completions = sequences[:, prompt:]
        rewards = torch.tensor([len(set(row.tolist())) / new for row in completions]).view(prompts, group)
        advantages = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)).view(-1, 1)
        logits = self.model.logits(self.model(sequences)[:, prompt - 1 : -1])
        policy = token_logprobs(logits, completions)
        # The first update on fresh samples: the old policy is the present one, as TRL computes it for one iteration.
        ratio = torch.exp(policy - policy.detach())
        loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages).mean()
        loss.backward()
        del logits, policy, ratio, loss
        trained = time.perf_counter()
        self.update()
        end = time.perf_counter()
        return {
            "seconds": end - start,
            "generateSeconds": generated - start,
            "trainSeconds": trained - generated,
            "optimizerSeconds": end - trained,
        }


def main():
    peer = Peer()
    operations = {name: getattr(peer, name) for name in ("load", "train", "logprob", "generate", "grpo")}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = operations[request.pop("op")](**request)
        except Exception as error:  # the runner shows it and stops
            reply = {"error": f"{type(error).__name__}: {error}"}
        reply["peakBytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
