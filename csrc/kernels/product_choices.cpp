// The tables of the process, and solutions as text.
#include "kernels/product_choices.h"

#include <charconv>
#include <utility>

#include "base/error.h"

namespace vt {

ProductChoices& product_choices() {
  static auto* const instance = new ProductChoices;  // products may outlive static destruction
  return *instance;
}

void ProductChoices::add(Table& table, const ProductTarget& target,
                         std::vector<ProductChoice> rows) {
  for (const ProductChoice& row : rows) (void)parse_solution(row.solution);  // all of them or none
  auto& known = table[target];
  for (ProductChoice& row : rows) {
    Problem problem(row.op, row.params);
    known.try_emplace(std::move(problem), std::move(row));
  }
}

void ProductChoices::add_packaged(const ProductTarget& target, std::vector<ProductChoice> rows) {
  {
    std::lock_guard lock(mutex_);
    add(packaged_, target, std::move(rows));
  }
  start_over();
}

void ProductChoices::add_read(const ProductTarget& target, std::vector<ProductChoice> rows) {
  {
    std::lock_guard lock(mutex_);
    add(own_, target, std::move(rows));
  }
  start_over();
}

ProductChoice ProductChoices::add_tuned(const ProductTarget& target, ProductChoice row) {
  std::lock_guard lock(mutex_);
  Problem problem(row.op, row.params);
  const auto [at, added] = own_[target].try_emplace(std::move(problem), std::move(row));
  tuned_ += added;
  return at->second;
}

void ProductChoices::clear() {
  {
    std::lock_guard lock(mutex_);
    own_.clear();
    tuned_ = 0;
  }
  start_over();
}

std::optional<ProductChoices::Found> ProductChoices::find(const ProductTarget& target,
                                                          const std::string& op,
                                                          const std::string& params) const {
  auto row_of = [&](const Table& table) -> const ProductChoice* {
    const auto rows = table.find(target);
    if (rows == table.end()) return nullptr;
    const auto row = rows->second.find({op, params});
    return row == rows->second.end() ? nullptr : &row->second;
  };
  std::lock_guard lock(mutex_);
  if (enabled)
    if (const ProductChoice* row = row_of(own_)) return Found{*row, false};
  if (packaged)
    if (const ProductChoice* row = row_of(packaged_)) return Found{*row, true};
  return std::nullopt;
}

std::vector<ProductChoice> ProductChoices::own(const ProductTarget& target) const {
  std::lock_guard lock(mutex_);
  std::vector<ProductChoice> result;
  if (const auto rows = own_.find(target); rows != own_.end())
    for (const auto& [problem, row] : rows->second) result.push_back(row);
  return result;
}

int64_t ProductChoices::tuned() const {
  std::lock_guard lock(mutex_);
  return tuned_;
}

std::string solution_of(const ProductAlgorithm& algorithm, int id, int splits) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result = str("CublasLt_", id, "_splits_", splits, '_');
  for (uint64_t word : algorithm.words)
    for (int shift = 60; shift >= 0; shift -= 4) result += kDigits[word >> shift & 15];
  return result;
}

std::optional<ProductAlgorithm> parse_solution(const std::string& solution) {
  if (solution == "Default") return std::nullopt;
  ProductAlgorithm result{};
  const size_t start = solution.rfind('_') + 1;  // 0 where there is none
  bool good = solution.starts_with("CublasLt_") && solution.size() - start == 8 * 16;
  for (int i = 0; good && i < 8; ++i) {
    const char* const begin = solution.data() + start + i * 16;
    const auto [end, error] = std::from_chars(begin, begin + 16, result.words[i], 16);
    good = error == std::errc() && end == begin + 16;
  }
  VT_CHECK(good, kValue, "tunable: '", solution,
           "' is no solution; expected 'Default', or 'CublasLt_' and so on with 128 hexadecimal "
           "digits at the end");
  return result;
}

}  // namespace vt
