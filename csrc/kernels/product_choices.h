// Which algorithm of the vendor library carries out which matrix product: the choices that were
// measured, here or before, and what the user wants of them.
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace vt {

// Note [Choices of products]
// The library's heuristic names several algorithms for a product, the one that it takes for the
// fastest first. Timing them finds a better one at times; but times differ from run to run, and
// with another algorithm the last bits of a result do too. So a choice by time counts only as a row
// of a table that is kept: a file of the user's or the table that comes with the package. Whoever
// has the row has the bits. Rows hold for one name of GPU and one version of the library, because
// nothing else knows what is in a solution. All devices of that name make the same choice.
struct ProductChoice {
  std::string op, params;           // the problem
  std::string solution;             // "Default": the heuristic's first
  double milliseconds = 0;          // of the solution, and
  double default_milliseconds = 0;  // of the heuristic's first; 0: not known
};

// For which machine a table holds.
struct ProductTarget {
  std::string gpu;
  uint64_t library = 0;  // version
  auto operator<=>(const ProductTarget&) const = default;
};

class ProductChoices {
 public:
  // What the user may set; see vibetensor.cuda.tunable.
  std::atomic<bool> enabled{false}, tuning{true}, packaged{true};
  std::atomic<int> max_milliseconds{30}, max_iterations{100};

  // Another number than before: plans made so far may be out of date.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  void start_over() { generation_.fetch_add(1, std::memory_order_acq_rel); }

  // Solutions must be well formed (check_solution). Rows of a problem that is known already are
  // left out.
  void add_packaged(const ProductTarget& target, std::vector<ProductChoice> rows);
  void add_read(const ProductTarget& target, std::vector<ProductChoice> rows);
  // A choice made here. Where another thread was faster, its choice is the result.
  ProductChoice add_tuned(const ProductTarget& target, ProductChoice row);
  void clear();  // forgets what was read and tuned

  struct Found {
    ProductChoice row;
    bool packaged;
  };
  // What holds now: own rows where `enabled`, then packaged ones where those are wanted.
  std::optional<Found> find(const ProductTarget& target, const std::string& op,
                            const std::string& params) const;
  // Read and tuned, in the order of problems.
  std::vector<ProductChoice> own(const ProductTarget& target) const;
  int64_t tuned() const;  // how many were made here

 private:
  using Problem = std::pair<std::string, std::string>;
  using Table = std::map<ProductTarget, std::map<Problem, ProductChoice>>;
  static void add(Table& table, const ProductTarget& target, std::vector<ProductChoice> rows);

  std::atomic<uint64_t> generation_{1};
  mutable std::mutex mutex_;
  Table packaged_, own_;
  int64_t tuned_ = 0;
};

ProductChoices& product_choices();

// The 64 bytes in which the library describes an algorithm, as a solution; `id` and `splits` are
// there to be read by people.
struct ProductAlgorithm {
  uint64_t words[8];
};
std::string solution_of(const ProductAlgorithm& algorithm, int id, int splits);
// nullopt for "Default". ValueError for what solution_of does not write.
std::optional<ProductAlgorithm> parse_solution(const std::string& solution);

// kernels/cuda/vendor, or kernels/no_cuda, where they throw the reason.
uint64_t product_library_version();
// Problems that were met where nothing may be timed, in a capture for one: (op, params).
std::vector<std::pair<std::string, std::string>> untuned_products(const std::string& gpu);
// Tunes those of the device; how many. Throws while anything is being captured.
int tune_untuned_products(int device);

}  // namespace vt
