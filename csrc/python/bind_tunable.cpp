// Choices of algorithms for matrix products: settings and tables, for vibetensor.cuda.tunable.
#include "python/bind_tunable.h"

#include <pybind11/stl.h>

#include <tuple>

#include "base/error.h"
#include "kernels/product_choices.h"
#include "python/pybind_tensor.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

// op, params, solution, milliseconds of it and of the heuristic's first
using Row = std::tuple<std::string, std::string, std::string, double, double>;
using Free = pyb::call_guard<pyb::gil_scoped_release>;

std::vector<ProductChoice> choices_of(const std::vector<Row>& rows) {
  std::vector<ProductChoice> result;
  for (const auto& [op, params, solution, milliseconds, first] : rows)
    result.push_back({op, params, solution, milliseconds, first});
  return result;
}

std::vector<Row> own_rows(const std::string& gpu) {
  std::vector<Row> result;
  for (const ProductChoice& row : product_choices().own({gpu, product_library_version()}))
    result.emplace_back(row.op, row.params, row.solution, row.milliseconds,
                        row.default_milliseconds);
  return result;
}

void set_limit(std::atomic<int>& limit, const char* what, int value) {
  VT_CHECK(value >= 0, kValue, "tunable: ", what, " must not be negative, got ", value);
  limit = value;
}

template <std::atomic<bool> ProductChoices::* Member>
void bind_switch(pyb::module_& module, const std::string& name, const char* meaning) {
  module.def(("get_tunable_" + name).c_str(), [] { return (product_choices().*Member).load(); },
             meaning);
  module.def(("set_tunable_" + name).c_str(),
             [](bool on) {
               (product_choices().*Member) = on;
               product_choices().start_over();
             },
             pyb::arg("on"), meaning);
}

}  // namespace

void bind_tunable(pyb::module_& module) {
  bind_switch<&ProductChoices::enabled>(module, "enabled", "Do own choices of products count?");
  bind_switch<&ProductChoices::tuning>(module, "tuning", "Are products timed where enabled?");
  bind_switch<&ProductChoices::packaged>(module, "packaged", "Does the packaged table count?");
  module.def(
      "get_tunable_limits",
      [] {
        const ProductChoices& choices = product_choices();
        return std::pair(choices.max_milliseconds.load(), choices.max_iterations.load());
      },
      "Milliseconds and runs that the timing of one algorithm takes at most.");
  module.def(
      "set_tunable_duration",
      [](int value) { set_limit(product_choices().max_milliseconds, "the duration", value); },
      pyb::arg("milliseconds"), "Sets how long the timing of one algorithm takes at most.");
  module.def(
      "set_tunable_iterations",
      [](int value) { set_limit(product_choices().max_iterations, "iterations", value); },
      pyb::arg("runs"), "Sets how many runs the timing of one algorithm takes at most.");
  module.def(
      "add_packaged_products",
      [](const std::string& gpu, uint64_t library, const std::vector<Row>& rows) {
        product_choices().add_packaged({gpu, library}, choices_of(rows));
      },
      pyb::arg("gpu"), pyb::arg("library"), pyb::arg("rows"), "Adds rows of the packaged table.");
  module.def(
      "add_products",
      [](const std::string& gpu, uint64_t library, const std::vector<Row>& rows) {
        product_choices().add_read({gpu, library}, choices_of(rows));
      },
      pyb::arg("gpu"), pyb::arg("library"), pyb::arg("rows"), "Adds rows that were read.");
  module.def("tuned_products", &own_rows, pyb::arg("gpu"), "Rows that were read or made here.");
  module.def(
      "tuned_product_count", [] { return product_choices().tuned(); },
      "How many rows were made here.");
  module.def(
      "clear_products", [] { product_choices().clear(); }, "Forgets what was read or made here.");
  module.def("product_library_version", &product_library_version,
             "The version of cuBLASLt, as it gives it.");
  module.def("untuned_products", &untuned_products, pyb::arg("gpu"),
             "Problems that were met where nothing may be timed.");
  module.def("tune_untuned_products", &tune_untuned_products, pyb::arg("device"), Free(),
             "Tunes those of a GPU; how many.");
}

}  // namespace vt::py
