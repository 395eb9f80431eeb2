// The way from a product to its algorithm: the tables, else a measurement, else the heuristic.
#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "base/error.h"
#include "device/capture.h"
#include "device/cuda/device.h"
#include "kernels/cuda/vendor/product_tuning.h"

namespace vt {
namespace cuda::cublaslt {
namespace {

using Problem = std::pair<std::string, std::string>;

ProductTarget target_of(int index) { return {properties(index).name, api().version()}; }

// Everything in the key but the device, in the words of PyTorch's TunableOp where it has them:
// sizes and leading dimensions are those of column-major matrices.
Problem problem_of(const Key& key) {
  auto letter = [](int64_t operation) { return operation == kTranspose ? 't' : 'n'; };
  const char ta = letter(key.a_operation), tb = letter(key.b_operation);
  std::string op = key.batch > 1 ? "GemmStridedBatched" : "Gemm";
  if (key.epilogue & kEpilogueBias) op += "AndBias";
  if (key.epilogue & kEpilogueGelu) op += key.aux_ld ? "AndGeluAux" : "AndGelu";
  else if (key.epilogue & (kEpilogueGeluBackward & ~kEpilogueGeluAux)) op += "AndGeluBackward";
  if (key.adds) op += "AndAdd";
  op += str("TunableOp_", name(static_cast<DType>(key.dtype)), key.tf32 ? "_tf32_" : "_",
            static_cast<char>(ta - 'a' + 'A'), static_cast<char>(tb - 'a' + 'A'));
  std::string params = str(ta, tb, '_', key.n, '_', key.m, '_', key.k, "_ld_", key.a_ld, '_',
                           key.b_ld, '_', key.out_ld);
  if (key.batch > 1)
    params += str("_B_", key.batch, '_', key.a_stride, '_', key.b_stride, '_', key.out_stride);
  if (key.aux_ld) params += str("_aux_", key.aux_ld);
  params += str("_align_", key.alignments & 0xff, '_', key.alignments >> 8 & 0xff, '_',
                key.alignments >> 16 & 0xff);
  return {std::move(op), std::move(params)};
}

int attribute_of(const Algorithm& algorithm, AlgorithmAttribute attribute) {
  int32_t value = -1;
  size_t written = 0;
  return api().algorithm_get(&algorithm, attribute, &value, sizeof value, &written) == kSuccess
             ? value
             : -1;
}

std::string text_of(const Algorithm& algorithm) {
  ProductAlgorithm words;
  static_assert(sizeof words == sizeof algorithm);
  std::memcpy(&words, &algorithm, sizeof words);
  return solution_of(words, attribute_of(algorithm, kAlgorithmId),
                     attribute_of(algorithm, kAlgorithmSplits));
}

// What a row says, as an algorithm for this plan. nullopt: the library refuses it.
std::optional<Heuristic> algorithm_of(const ProductAlgorithm& words, const Key& key,
                                      const Plan& plan) {
  Algorithm algorithm;
  std::memcpy(&algorithm, &words, sizeof algorithm);
  return plan.checked(key, algorithm);
}

// The heuristic's first, asked for once a process. nullopt: cuBLASLt has none.
std::optional<Heuristic> heuristic_for(const Key& key, const Plan& plan) {
  static std::mutex mutex;
  static auto* const known = new std::unordered_map<Key, std::optional<Heuristic>, KeyHash>;
  std::lock_guard lock(mutex);
  if (auto found = known->find(key); found != known->end()) return found->second;
  const std::vector<Heuristic> first = plan.candidates(key, kWorkspaceBytes, 1);
  return known->emplace(key, first.empty() ? std::nullopt : std::optional(first[0])).first->second;
}

struct Untuned {
  std::mutex mutex;
  std::vector<Key> keys;
};
Untuned& untuned() {
  static auto* const instance = new Untuned;
  return *instance;
}

void remember_untuned(const Key& key) {
  std::lock_guard lock(untuned().mutex);
  auto& keys = untuned().keys;
  if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
}

// The choice, now in the table. No lock is held: a stream may wait for another thread's.
std::optional<ProductChoice> tune(const Key& key) {
  const std::optional<Measured> measured = measure(key);
  if (!measured) return std::nullopt;
  Problem problem = problem_of(key);
  return product_choices().add_tuned(
      target_of(static_cast<int>(key.device)),
      {.op = std::move(problem.first),
       .params = std::move(problem.second),
       .solution = measured->best ? text_of(*measured->best) : "Default",
       .milliseconds = measured->milliseconds,
       .default_milliseconds = measured->default_milliseconds});
}

}  // namespace

bool choose_algorithm(const Key& key, Plan& plan) {
  ProductChoices& choices = product_choices();
  const Problem problem = problem_of(key);
  std::optional<ProductChoices::Found> found =
      choices.find(target_of(static_cast<int>(key.device)), problem.first, problem.second);
  std::optional<Heuristic> chosen;
  auto take = [&] {
    const std::optional<ProductAlgorithm> words = parse_solution(found->row.solution);
    if (words) chosen = algorithm_of(*words, key, plan);
    return chosen || !words;
  };
  if (found && !take()) {
    // The packaged table was not asked for, and a part of a GPU may go by the name of the whole.
    VT_CHECK(found->packaged, kRuntime, "matmul: cuBLASLt refuses the own choice ",
             found->row.solution, " for ", problem.first, ' ', problem.second,
             "; remove the row from the file and read it again");
    found.reset();
    remember_untuned(key);
  }
  if (!found && choices.enabled && choices.tuning) {
    plan.provisional = any_capture();
    std::optional<ProductChoice> tuned;
    if (!plan.provisional) tuned = tune(key);
    if (tuned) {
      found = {*tuned, false};
      VT_CHECK(take(), kRuntime, "matmul: cuBLASLt refuses the choice ", tuned->solution, " for ",
               problem.first, ' ', problem.second, ", which it ran before");
    } else {
      remember_untuned(key);
    }
  }
  if (!chosen) chosen = heuristic_for(key, plan);
  if (chosen) plan.heuristic = *chosen;
  return chosen.has_value();
}

}  // namespace cuda::cublaslt

using namespace cuda::cublaslt;

uint64_t product_library_version() { return api().version(); }

std::vector<std::pair<std::string, std::string>> untuned_products(const std::string& gpu) {
  std::vector<std::pair<std::string, std::string>> result;
  {
    std::lock_guard lock(untuned().mutex);
    for (const Key& key : untuned().keys)
      if (cuda::properties(static_cast<int>(key.device)).name == gpu)
        result.push_back(problem_of(key));
  }
  // An eager call may have timed it since.
  std::erase_if(result, [&](const auto& problem) {
    const auto found =
        product_choices().find({gpu, api().version()}, problem.first, problem.second);
    return found && !found->packaged;
  });
  std::ranges::sort(result);
  result.erase(std::ranges::unique(result).begin(), result.end());
  return result;
}

int tune_untuned_products(int device) {
  VT_CHECK(!any_capture(), kRuntime,
           "tunable: products cannot be timed while a graph is being captured; end the capture "
           "first");
  cuda::DeviceGuard guard(device);
  std::vector<Key> keys;
  {
    std::lock_guard lock(untuned().mutex);
    for (const Key& key : untuned().keys)
      if (key.device == device) keys.push_back(key);
  }
  int count = 0;
  for (const Key& key : keys) {
    const Problem problem = problem_of(key);
    const auto found = product_choices().find(target_of(device), problem.first, problem.second);
    const bool known = found && !found->packaged;
    const bool tuned = !known && tune(key);
    count += tuned;
    if (!known && !tuned) continue;
    std::lock_guard lock(untuned().mutex);
    std::erase(untuned().keys, key);
  }
  product_choices().start_over();
  return count;
}

}  // namespace vt
