// Writing the kernel of a program.
#include "fuse/source.h"

#include <algorithm>

#include "fuse/source_parts.h"

namespace vt::fuse {

const char* type_name(DType t) {
  static constexpr const char* kNames[kDTypeCount] = {"bool",         "uint8_t", "int8_t",
                                                      "int32_t",      "int64_t", "vt::Half",
                                                      "vt::BFloat16", "float",   "double"};
  return kNames[static_cast<int>(t)];
}
const char* compute_name(DType t) { return is_half(t) ? "float" : type_name(t); }

namespace {

// The number as an element of the tensor's type, in the type computed in: as an operator that reads
// it from a tensor would see it.
Parameter number_parameter(const Scalar& number, DType dtype) {
  return visit_dtype(dtype, [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const C value = number.to<C>();
    if constexpr (std::is_same_v<T, C>) return parameter_of(value);
    else return parameter_of(static_cast<C>(T(value)));
  });
}

}  // namespace

std::string formula_of(const Node& node, int index, Parameters& parameters,
                       const std::string* names) {
  const char* out = type_name(node.out.dtype);
  if (node.kind == NodeKind::kFill) {
    const std::string name = str("c", index);
    visit_dtype(node.out.dtype, [&]<class T>(TypeTag<T>) {
      parameters.add(str(out, " ", name), parameter_of(node.params[0].to<T>()));
    });
    return name;
  }
  if (node.kind == NodeKind::kConvert) return str("convert<", out, ">(", names[0], ")");
  const FunctorFacts& facts = functor_facts(node.op);
  const char* compute = compute_name(node.dtype);
  std::string arguments;
  for (int i = 0; i < node.inputs; ++i) {
    std::string name = names[i];
    if (i == node.scalar_at) {
      name = str("n", index);
      parameters.add(str(compute, " ", name),
                     number_parameter(node.params[facts.scalars], node.dtype));
    }
    const bool is_bool = facts.bool_inputs >> i & 1;
    arguments += str(i ? ", " : "", "static_cast<", is_bool ? "bool" : compute, ">(", name, ")");
  }
  const std::string functor = str("vt::functor::", facts.functor, "<", compute, ">");
  Parameter object;
  std::string callee = functor + "{}";
  if (facts.build(node.dtype, node.params, object.bytes) > 0) {
    callee = str("f", index);
    parameters.add(functor + " " + callee, object);
  }
  return str("convert<", out, ">(vt::functor::value_for<", out, ">(", callee, ", ", arguments,
             "))");
}

namespace {

enum class Access { kPacked, kRepeated, kEach };

class Writer {
 public:
  explicit Writer(const Program& program) : program_(program), space_(program.space) {
    flat_ = space_.ndim <= 1;
    each_window([&](const Window& w) {
      flat_ = flat_ && (space_.ndim == 0 || w.strides[0] == item(w) || w.strides[0] == 0);
    });
    int64_t narrowest = 16, widest = 1;
    each_window([&](const Window& w) {
      narrowest = std::min(narrowest, item(w));
      widest = std::max(widest, item(w));
    });
    // 16 bytes of the narrowest type a thread, but at most 32 of the widest.
    vector_ = std::min<int64_t>({16 / narrowest, 8, 32 / widest});
    while (!flat_ && space_.sizes[0] % vector_ != 0) vector_ /= 2;
  }

  KernelSource write() {
    std::string loads, steps, stores;
    for (size_t l = 0; l < program_.loads.size(); ++l)
      loads += load(static_cast<int>(l), program_.loads[l]);
    for (size_t s = 0; s < program_.steps.size(); ++s)
      steps += step(static_cast<int>(s), program_.steps[s]);
    for (size_t s = 0; s < program_.stores.size(); ++s)
      stores += store(static_cast<int>(s), program_.stores[s]);
    std::string results;
    for (size_t s = 0; s < program_.steps.size(); ++s)
      if (is_stored(static_cast<int>(s)))
        results +=
            str("  Values<", type_name(program_.steps[s].node->out.dtype), ", V> o", s, ";\n");
    const std::string body = loads + results + "#pragma unroll\n  for (int j = 0; j < V; ++j) {\n" +
                             steps + "  }\n" + stores;
    const int64_t numel = space_.numel();
    std::string text = "#include \"fuse/prelude.h\"\n";
    if (flat_) {
      parameters_.add("int64_t numel", parameter_of(numel));
      text += head() + str("  auto piece = [&]<int V>(Count<V>, int64_t at) {\n", body, "  };\n",
                           "  const int64_t at = (int64_t(blockIdx.x) * ", kBlock,
                           " + threadIdx.x) * ", vector_, ";\n  if (at + ", vector_,
                           " <= numel) return piece(Count<", vector_, ">{}, at);\n",
                           "  for (int64_t i = at; i < numel; ++i) piece(Count<1>{}, i);\n}\n");
    } else {
      text += head() + str("  constexpr int V = ", vector_, ";\n", positions(), body, "}\n");
    }
    const int64_t packs = (numel + vector_ - 1) / vector_;
    return {std::move(text), std::move(parameters_.values), (packs + kBlock - 1) / kBlock};
  }

 private:
  template <class F>
  void each_window(F&& f) const {
    for (const Window& load : program_.loads) f(load);
    for (const Store& store : program_.stores) f(store.window);
  }

  std::string head() const {
    return str("extern \"C\" __global__ void __launch_bounds__(", kBlock, ") ", kKernelName, "(",
               parameters_.declarations, ") {\n");
  }

  bool is_stored(int step) const {
    return std::any_of(program_.stores.begin(), program_.stores.end(),
                       [&](const Store& store) { return store.step == step; });
  }

  Access access_of(const Window& w) const {
    const int64_t width = std::min<int64_t>(vector_ * item(w), 16);
    if (space_.ndim == 0) return Access::kEach;
    if (w.strides[0] == 0) return Access::kRepeated;
    bool packed = w.strides[0] == item(w) && reinterpret_cast<uintptr_t>(w.data) % width == 0;
    for (int d = 1; d < space_.ndim; ++d) packed = packed && w.strides[d] % width == 0;
    return packed ? Access::kPacked : Access::kEach;
  }

  // The coordinates of a thread's first element, for spaces that are not flat.
  std::string positions() const {
    const int64_t packs = space_.numel() / vector_;
    int64_t reach = packs;
    each_window([&](const Window& w) { reach = std::max<int64_t>(reach, w.end(space_) - w.data); });
    const char* index = reach < (int64_t{1} << 31) ? "uint32_t" : "uint64_t";
    std::string text = str("  using Index = ", index, ";\n  Index rest = Index(blockIdx.x) * ",
                           kBlock, " + threadIdx.x;\n  if (rest >= Index(", packs, ")) return;\n");
    for (int d = 0; d < space_.ndim; ++d) {
      const int64_t size = d == 0 ? space_.sizes[0] / vector_ : space_.sizes[d];
      if (d == space_.ndim - 1) text += str("  const Index i", d, " = rest;\n");
      else
        text += str("  const Index i", d, " = rest % Index(", size, ");\n  rest /= Index(", size,
                    ");\n");
    }
    return text;
  }

  // Bytes from the window's start to the thread's first element.
  std::string offset(const Window& w) const {
    if (flat_) return w.strides[0] == 0 || space_.ndim == 0 ? "0" : str("at * ", item(w));
    std::string sum = "0";
    for (int d = 0; d < space_.ndim; ++d)
      if (w.strides[d] != 0)
        sum += str(" + i", d, " * Index(", w.strides[d] * (d == 0 ? vector_ : 1), ")");
    return sum;
  }

  std::string load(int index, const Window& w) {
    const std::string name = str("l", index);
    parameters_.add("const char* " + name, parameter_of(w.data));
    const char* how = access_of(w) == Access::kPacked     ? "load_packed"
                      : access_of(w) == Access::kRepeated ? "load_repeated"
                                                          : "load_each";
    return str("  const auto v", name, " = ", how, "<", type_name(w.dtype), ", V>(", name, " + ",
               offset(w), access_of(w) == Access::kEach ? str(", ", w.strides[0]) : "", ");\n");
  }

  std::string store(int index, const Store& s) {
    const std::string name = str("s", index);
    parameters_.add("char* " + name, parameter_of(s.window.data));
    const bool packed = access_of(s.window) == Access::kPacked;
    return str("  ", packed ? "store_packed" : "store_each", "(", name, " + ", offset(s.window),
               packed ? "" : str(", ", s.window.strides[0]), ", o", s.step, ");\n");
  }

  std::string step(int index, const Step& s) {
    const std::string value = formula(s, index, parameters_, [](const Argument& a) {
      return a.kind == Argument::kLoad ? str("vl", a.index, ".v[j]") : str("x", a.index);
    });
    std::string text =
        str("    const ", type_name(s.node->out.dtype), " x", index, " = ", value, ";\n");
    if (is_stored(index)) text += str("    o", index, ".v[j] = x", index, ";\n");
    return text;
  }

  const Program& program_;
  const Space& space_;
  bool flat_ = false;
  int64_t vector_ = 1;
  Parameters parameters_;
};

}  // namespace

const std::vector<Header>& headers() {
  static const std::vector<Header> instance = [] {
    std::vector<Header> result = embedded();
    for (const char* name :
         {"cstdint", "cmath", "cstring", "limits", "type_traits", "base/scalar.h"})
      result.push_back({name, "#include \"fuse/standard.h\"\n"});
    return result;
  }();
  return instance;
}

KernelSource generate(const Program& program) {
  return program.row != 0 ? generate_rows(program) : Writer(program).write();
}

}  // namespace vt::fuse
