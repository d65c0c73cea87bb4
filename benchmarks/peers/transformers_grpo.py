"""The least a GRPO step on transformers must do: sample with generate(), one forward and backward, clip, AdamW.

A floor of what a trainer on top of it takes: no data loader, no reward, no second log-probability pass, no logging.
Usage: transformers_grpo.py SCRIPTS PROMPTS GROUP PROMPT_TOKENS NEW_TOKENS STEPS  (SCRIPTS holds bench_torch.py)
Prints one JSON line: median seconds of a step and of its phases, the first step left out as warm-up.
"""

import json
import statistics
import sys
import time

sys.path.insert(0, sys.argv[1])
import bench_torch  # noqa: E402
import torch  # noqa: E402

num_prompts, group_size, prompt_tokens, new_tokens, num_steps = map(int, sys.argv[2:7])
torch.set_num_threads(2)
torch.manual_seed(0)
model = bench_torch.build("bench-30m", torch.float32)
vocab_size = bench_torch.CFGS["bench-30m"]["vocab_size"]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
phases = {"generate": [], "train": [], "optimizer": []}


def timed(phase, run):
    start = time.perf_counter()
    result = run()
    phases[phase].append(time.perf_counter() - start)
    return result


def sample(prompts):
    model.eval()
    with torch.no_grad():
        return model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
        )


def backward(token_ids, advantages):
    model.train()
    logits = model(input_ids=token_ids, use_cache=False, logits_to_keep=new_tokens + 1).logits[:, :-1]
    completion = token_ids[:, prompt_tokens:]
    logprobs = logits.log_softmax(-1).gather(-1, completion[..., None])[..., 0]
    ratio = (logprobs - logprobs.detach()).exp()
    clipped = ratio.clamp(0.8, 1.28)
    loss = -torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None]).mean()
    loss.backward()


def update():
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


steps = []
for _ in range(num_steps + 1):
    start = time.perf_counter()
    prompts = torch.randint(0, vocab_size, (num_prompts, prompt_tokens)).repeat_interleave(group_size, 0)
    token_ids = timed("generate", lambda: sample(prompts))
    rewards = torch.rand(num_prompts, group_size)
    advantages = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-6)).flatten()
    timed("train", lambda: backward(token_ids, advantages))
    timed("optimizer", update)
    steps.append(time.perf_counter() - start)

print(
    json.dumps(
        {
            "seconds": statistics.median(steps[1:]),
            "phases": {name: statistics.median(values[1:]) for name, values in phases.items()},
        }
    )
)
