// What it saves that sequences share blocks of the KV cache: prefill of a prompt that a group has in common, and
// decoding of a tree of agents (a group of leads, each with subagents of several turns). Both run on one engine, once
// with equal beginnings and once with a first token of each agent's own, so that nothing is shared. One JSON object a
// line; random weights and tokens; on CUDA bf16. Usage: sharing_bench [--device cpu|cuda] [--shape
// nano|bench-30m|qwen3-0.6b|qwen3-4b]
//                                               [--threads N] [--rounds N] [--group N] [--divide N]
// --divide N: all prompts, turns and tool responses are N times as short.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/options.h"
#include "bench/shapes.h"
#include "infer/generator.h"

using namespace wideseek;

namespace {

struct Options {
  std::string device = "cuda", shape = "qwen3-4b";
  int64_t threads = 2, rounds = 1, group = 8, divide = 1;
};

// Tokens of the parts of a tree, as benchmarks/rollout-teams.ts has them; subagents are told the question too.
struct TreeForm {
  int64_t system = 1024, question = 256, plan = 256, subtask = 64, turn = 128, response = 512, answer = 512;
  int64_t subagents = 10, turns = 3;

  explicit TreeForm(int64_t divide) {
    for (int64_t* part : {&system, &question, &plan, &subtask, &turn, &response, &answer})
      *part = std::max<int64_t>(1, *part / divide);
  }
  int64_t lead_context() const { return system + question + plan + subagents * turn + answer; }
  int64_t subagent_context() const { return system + question + subtask + turns * turn + (turns - 1) * response; }
};

class Random {
 public:
  explicit Random(int64_t vocab_size) : vocab_size_(static_cast<uint64_t>(vocab_size)) {}
  void append(std::vector<int32_t>& tokens, int64_t count) {
    for (; count > 0; --count) tokens.push_back(static_cast<int32_t>(philox_block(1, 2, next_++)[0] % vocab_size_));
  }

 private:
  uint64_t vocab_size_, next_ = 0;
};

// All that an agent has read and said.
using Agent = std::vector<int32_t>;

// One turn of every agent at once, with `new_tokens` each. Returns what decoding takes: as many steps as a turn has
// tokens, each as long as the median of those in which every agent got a token and nothing else was computed.
double take_turns(Generator& generator, const std::vector<Agent*>& agents, int64_t new_tokens) {
  for (size_t i = 0; i < agents.size(); ++i) {
    Agent& agent = *agents[i];
    GenerateRequest request{agent, new_tokens, i, {}, {}, {}, {}, {}};
    request.on_done = [&agent](const Completion& completion) {
      agent.insert(agent.end(), completion.token_ids.begin(), completion.token_ids.end());
    };
    request.on_error = [](std::exception_ptr reason) { std::rethrow_exception(std::move(reason)); };
    generator.add(i, std::move(request));
  }
  std::vector<double> seconds;
  while (!generator.idle()) {
    const GeneratorStats before = generator.stats();
    const double start = bench::seconds_now();
    generator.step(1);
    const double end = bench::seconds_now();
    const GeneratorStats after = generator.stats();
    const auto all = static_cast<int64_t>(agents.size());
    if (after.num_generated_tokens - before.num_generated_tokens == all &&
        after.num_computed_tokens - before.num_computed_tokens == all) {
      seconds.push_back(end - start);
    }
  }
  if (new_tokens == 1) return 0;
  WS_CHECK(!seconds.empty(), kInvalidArgument, "sharing_bench", "turns are too short: prompts took all of their steps");
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2] * static_cast<double>(new_tokens);
}

std::vector<Agent*> pointers(std::vector<Agent>& agents) {
  std::vector<Agent*> all;
  for (Agent& agent : agents) all.push_back(&agent);
  return all;
}

struct Seconds {
  double decode = 0, all = 0;
};

// Agents with equal beginnings, or each with a first token of its own from `number` on.
std::vector<Agent> make_agents(const Agent& prompt, int64_t count, bool shares, int32_t number) {
  std::vector<Agent> agents(static_cast<size_t>(count), prompt);
  for (size_t i = 0; i < agents.size(); ++i) agents[i][0] = shares ? number : number + static_cast<int32_t>(i);
  return agents;
}

Seconds fill_prompts(Generator& generator, const Options& options, int64_t length, int64_t vocab_size, bool shares) {
  generator.clear_prefix_cache();
  Agent prompt;
  Random(vocab_size).append(prompt, length);
  std::vector<Agent> agents = make_agents(prompt, options.group, shares, 0);
  const double start = bench::seconds_now();
  take_turns(generator, pointers(agents), 1);
  return {0, bench::seconds_now() - start};
}

// All leads plan, then all subagents take their turns, then the leads answer with their reports.
Seconds play_tree(Generator& generator, const Options& options, const TreeForm& form, int64_t vocab_size, bool shares) {
  generator.clear_prefix_cache();
  Random random(vocab_size);
  Agent question, of_lead, of_subagent;
  random.append(question, form.question);
  for (Agent* prompt : {&of_lead, &of_subagent}) {
    random.append(*prompt, form.system);
    prompt->insert(prompt->end(), question.begin(), question.end());
  }
  const int64_t num_subagents = options.group * form.subagents;
  std::vector<Agent> leads = make_agents(of_lead, options.group, shares, 0);
  std::vector<Agent> subagents = make_agents(of_subagent, num_subagents, shares, static_cast<int32_t>(options.group));
  for (Agent& subagent : subagents) random.append(subagent, form.subtask);

  Seconds seconds;
  const double start = bench::seconds_now();
  seconds.decode += take_turns(generator, pointers(leads), form.plan);
  for (int64_t turn = 0; turn < form.turns; ++turn) {
    if (turn > 0) {
      for (Agent& subagent : subagents) random.append(subagent, form.response);
    }
    seconds.decode += take_turns(generator, pointers(subagents), form.turn);
  }
  for (size_t s = 0; s < subagents.size(); ++s) {
    Agent& lead = leads[s / static_cast<size_t>(form.subagents)];
    lead.insert(lead.end(), subagents[s].end() - form.turn, subagents[s].end());
  }
  seconds.decode += take_turns(generator, pointers(leads), form.answer);
  seconds.all = bench::seconds_now() - start;
  return seconds;
}

// With and without sharing in turn; which comes first changes from round to round.
template <typename F>
std::vector<std::pair<Seconds, Seconds>> measure(int64_t rounds, F&& run) {
  std::vector<std::pair<Seconds, Seconds>> found(static_cast<size_t>(rounds));
  for (size_t round = 0; round < found.size(); ++round) {
    for (const bool shares : {round % 2 == 0, round % 2 != 0})
      (shares ? found[round].first : found[round].second) = run(shares);
  }
  return found;
}

// "name":[1.2,1.3]
template <typename F>
void print_list(const char* name, const std::vector<std::pair<Seconds, Seconds>>& found, F&& value) {
  std::printf(",\"%s\":[", name);
  for (size_t i = 0; i < found.size(); ++i)
    std::printf("%s%.6g", i == 0 ? "" : ",", value(found[i].first, found[i].second));
  std::printf("]");
}

void run(const Options& options, Backend& backend, Model& model) {
  const int64_t vocab_size = model.config().vocab_size;
  const TreeForm form(options.divide);
  const int64_t prompt = std::max<int64_t>(32, 4096 / options.divide);
  const int64_t longest = std::max({prompt + 1, form.lead_context(), form.subagent_context()});
  const int64_t block = KvCache::kBlockTokens;
  const int64_t tree_tokens =
      options.group * (form.lead_context() + form.subagents * form.subagent_context() + (1 + form.subagents) * block);
  WS_CHECK(options.group * (1 + form.subagents) <= vocab_size, kInvalidArgument, "sharing_bench",
           "more agents than first tokens");
  Generator generator(backend, model, {longest, std::max(tree_tokens, options.group * (prompt + block)), 8192});

  const auto fill = [&](bool shares) { return fill_prompts(generator, options, prompt, vocab_size, shares); };
  fill(true);  // loads kernels and takes memory
  const auto filled = measure(options.rounds, fill);
  std::printf("{\"bench\":\"prefix_sharing\",\"shape\":\"%s\",\"group\":%lld,\"prompt\":%lld", options.shape.c_str(),
              static_cast<long long>(options.group), static_cast<long long>(prompt));
  print_list("shared_s", filled, [](const Seconds& shared, const Seconds&) { return shared.all; });
  print_list("apart_s", filled, [](const Seconds&, const Seconds& apart) { return apart.all; });
  print_list("prefill_speedup", filled,
             [](const Seconds& shared, const Seconds& apart) { return apart.all / shared.all; });
  std::printf("}\n");
  std::fflush(stdout);

  const auto played =
      measure(options.rounds, [&](bool shares) { return play_tree(generator, options, form, vocab_size, shares); });
  std::printf("{\"bench\":\"agent_tree\",\"shape\":\"%s\",\"group\":%lld,\"subagents\":%lld,\"system\":%lld",
              options.shape.c_str(), static_cast<long long>(options.group), static_cast<long long>(form.subagents),
              static_cast<long long>(form.system));
  std::printf(",\"question\":%lld,\"turns\":%lld,\"subagent_context\":%lld,\"lead_context\":%lld",
              static_cast<long long>(form.question), static_cast<long long>(form.turns),
              static_cast<long long>(form.subagent_context()), static_cast<long long>(form.lead_context()));
  print_list("shared_decode_s", played, [](const Seconds& shared, const Seconds&) { return shared.decode; });
  print_list("apart_decode_s", played, [](const Seconds&, const Seconds& apart) { return apart.decode; });
  print_list("decode_speedup", played,
             [](const Seconds& shared, const Seconds& apart) { return apart.decode / shared.decode; });
  print_list("replay_speedup", played,
             [](const Seconds& shared, const Seconds& apart) { return apart.all / shared.all; });
  std::printf(",\"replays\":%lld}\n", static_cast<long long>(backend.num_replays()));
}

Options parse(int argc, char** argv) {
  Options options;
  bench::read_options("sharing_bench", argc, argv,
                      {{{"--threads", &options.threads},
                        {"--rounds", &options.rounds},
                        {"--group", &options.group},
                        {"--divide", &options.divide}},
                       {{"--device", &options.device}, {"--shape", &options.shape}},
                       {},
                       1});
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_program([&] {
    const Options options = parse(argc, argv);
    const std::unique_ptr<Backend> backend = bench::backend_of(options.device, options.threads);
    Model model(*backend, bench::config_of(options.shape), backend->activation_dtype());
    bench::fill_weights(*backend, model);
    run(options, *backend, model);
  });
}
