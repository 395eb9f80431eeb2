// The pieces that all generated kernels are written with: types, parameters, one step's formula.
#pragma once
#include "fuse/source.h"

namespace vt::fuse {

const char* type_name(DType t);     // "vt::BFloat16"
const char* compute_name(DType t);  // "float": what arithmetic on t happens in

inline int64_t item(const Window& w) { return static_cast<int64_t>(item_size(w.dtype)); }

template <class T>
Parameter parameter_of(const T& value) {
  static_assert(sizeof(T) <= sizeof(Parameter::bytes));
  Parameter p;
  std::memcpy(p.bytes, &value, sizeof value);
  return p;
}

// A kernel's parameters: their declarations and values, in order.
struct Parameters {
  std::string declarations;
  std::vector<Parameter> values;

  void add(const std::string& declaration, const Parameter& value) {
    declarations += (declarations.empty() ? "" : ", ") + declaration;
    values.push_back(value);
  }
};

// What the step computes of one element, rounded to the type of its result. `name_of` says how an
// argument that is a load or a step is spelled; names[i] is input i, unless that is a number.
std::string formula_of(const Node& node, int index, Parameters& parameters,
                       const std::string* names);
template <class F>
std::string formula(const Step& step, int index, Parameters& parameters, F&& name_of) {
  const Node& node = *step.node;
  std::string names[kMaxInputs];
  for (int i = 0; i < node.inputs; ++i)
    if (i != node.scalar_at) names[i] = name_of(step.arguments[i]);
  return formula_of(node, index, parameters, names);
}

KernelSource generate_rows(const Program& program);  // row_source.cpp

}  // namespace vt::fuse
