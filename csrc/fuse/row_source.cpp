// Kernels of programs with reductions. A block, or a warp for short rows, holds a row in registers;
// between phases it adds up what the threads have. The order of every sum depends on the row's
// length and the types only.
#include <algorithm>
#include <set>

#include "fuse/source_parts.h"

namespace vt::fuse {
namespace {

const char* reduction_name(ReduceKind kind) {
  return kind == ReduceKind::kMax ? "Largest" : kind == ReduceKind::kMin ? "Smallest" : "Sum";
}

class RowWriter {
 public:
  explicit RowWriter(const Program& program) : program_(program), space_(program.space) {
    int64_t narrowest = 16, widest = 1;
    auto look = [&](const Window& w) {
      if (w.strides[0] == 0) return;
      narrowest = std::min(narrowest, item(w));
      widest = std::max(widest, item(w));
    };
    for (const Window& load : program.loads) look(load);
    for (const Store& store : program.stores) look(store.window);
    vector_ = std::min<int64_t>({16 / narrowest, 8, 32 / widest});
    while (program.row % vector_ != 0 || program.row / vector_ < 32) {
      if (vector_ == 1) break;
      vector_ /= 2;
    }
    const int64_t packs = (program.row + vector_ - 1) / vector_;
    // Two packs a thread, more only where a block has no more threads.
    width_ = packs <= 64 ? 32 : std::min<int64_t>(1024, ((packs + 1) / 2 + 31) / 32 * 32);
    packs_ = (packs + width_ - 1) / width_;
    threads_ = width_ == 32 ? kBlock : width_;
    find_phases();
  }

  KernelSource write() {
    const int64_t rows = space_.numel() / program_.row;
    std::string body = loads();
    for (int phase = 0; phase <= last_phase_; ++phase) body += once(phase) + each(phase);
    body += row_stores();
    parameters_.add("int64_t rows", parameter_of(rows));
    std::string text =
        str("#include \"fuse/prelude.h\"\n#include \"fuse/rows.h\"\n",
            "extern \"C\" __global__ void __launch_bounds__(", threads_, ") ", kKernelName, "(",
            parameters_.declarations, ") {\n  constexpr int W = ", width_, ", V = ", vector_,
            ", P = ", packs_, ", N = ", program_.row, ";\n  const int lane = threadIdx.x % W;\n",
            "  const int64_t row = int64_t(blockIdx.x) * ", threads_ / width_,
            " + threadIdx.x / W;\n  if (row >= rows) return;\n", coordinates(), body, "}\n");
    const int64_t in_block = threads_ / width_;
    return {std::move(text), std::move(parameters_.values), (rows + in_block - 1) / in_block,
            static_cast<int>(threads_)};
  }

 private:
  bool is_once(const Argument& a) const {
    return a.kind == Argument::kLoad ? program_.loads[at(a)].strides[0] == 0
                                     : program_.steps[at(a)].once;
  }
  static size_t at(const Argument& a) { return static_cast<size_t>(a.index); }

  // A reduction's value is there one phase after what it reduces.
  void find_phases() {
    for (const Step& step : program_.steps) {
      int phase = 0;
      for (int i = 0; i < step.node->inputs; ++i)
        if (step.arguments[i].kind == Argument::kStep)
          phase = std::max(phase, ready_[at(step.arguments[i])]);
      phase_.push_back(phase);
      ready_.push_back(phase + (step.node->kind == NodeKind::kReduce ? 1 : 0));
      last_phase_ = std::max(last_phase_, ready_.back());
    }
    for (size_t s = 0; s < program_.steps.size(); ++s)
      for (int i = 0; i < program_.steps[s].node->inputs; ++i) {
        const Argument& a = program_.steps[s].arguments[i];
        if (a.kind == Argument::kStep && !is_once(a) && phase_[at(a)] < phase_[s])
          held_.insert(a.index);
      }
  }

  // The coordinates of a row, innermost first; the last one needs no division.
  std::string coordinates() const {
    if (space_.ndim == 2) return "  const int64_t i1 = row;\n";
    std::string text = "  int64_t rest = row;\n";
    for (int d = 1; d < space_.ndim; ++d)
      text += d == space_.ndim - 1 ? str("  const int64_t i", d, " = rest;\n")
                                   : str("  const int64_t i", d, " = rest % ", space_.sizes[d],
                                         ";\n  rest /= ", space_.sizes[d], ";\n");
    return text;
  }
  std::string row_offset(const Window& w) const {
    std::string sum;
    for (int d = 1; d < space_.ndim; ++d)
      if (w.strides[d] != 0) sum += str(" + i", d, " * ", w.strides[d]);
    return sum;
  }
  bool packed(const Window& w) const {
    const int64_t width = std::min<int64_t>(vector_ * item(w), 16);
    bool result = reinterpret_cast<uintptr_t>(w.data) % width == 0;
    for (int d = 1; d < space_.ndim; ++d) result = result && w.strides[d] % width == 0;
    return result;
  }

  static std::string for_packs(const std::string& inside) {
    return "#pragma unroll\n  for (int p = 0; p < P; ++p) {\n    const int i = (p * W + lane) * "
           "V;\n"
           "    if (i < N) {\n" +
           inside + "    }\n  }\n";
  }

  std::string loads() {
    std::string text, inside;
    for (size_t l = 0; l < program_.loads.size(); ++l) {
      const Window& w = program_.loads[l];
      parameters_.add(str("const char* l", l), parameter_of(w.data));
      const std::string base = str("l", l, row_offset(w));
      if (w.strides[0] == 0) {
        text += str("  const ", type_name(w.dtype), " u", l, " = *reinterpret_cast<const ",
                    type_name(w.dtype), "*>(", base, ");\n");
        continue;
      }
      text += str("  Values<", type_name(w.dtype), ", V> v", l, "[P];\n");
      inside +=
          str("      v", l, "[p] = ", packed(w) ? "load_packed<" : "load_each<", type_name(w.dtype),
              ", V>(", base, " + i * ", item(w), packed(w) ? "" : str(", ", item(w)), ");\n");
    }
    for (int s : held_)
      text += str("  Values<", type_name(program_.steps[static_cast<size_t>(s)].node->out.dtype),
                  ", V> k", s, "[P];\n");
    return text + (inside.empty() ? "" : for_packs(inside));
  }

  std::string name_of(const Argument& a, int phase) const {
    if (a.kind == Argument::kLoad)
      return is_once(a) ? str("u", a.index) : str("v", a.index, "[p].v[j]");
    if (is_once(a) || phase_[at(a)] == phase) return str("x", a.index);
    return str("k", a.index, "[p].v[j]");
  }

  std::string assigned(int index) {
    const Step& s = program_.steps[static_cast<size_t>(index)];
    const int phase = phase_[static_cast<size_t>(index)];
    const std::string value =
        formula(s, index, parameters_, [&](const Argument& a) { return name_of(a, phase); });
    return str("const ", type_name(s.node->out.dtype), " x", index, " = ", value, ";\n");
  }

  // What a row has once and is known when the phase begins.
  std::string once(int phase) {
    std::string text;
    for (size_t s = 0; s < program_.steps.size(); ++s)
      if (phase_[s] == phase && program_.steps[s].once &&
          program_.steps[s].node->kind != NodeKind::kReduce)
        text += "  " + assigned(static_cast<int>(s));
    return text;
  }

  // The elements' steps of a phase, and then its reductions.
  std::string each(int phase) {
    std::string before, results, steps, stores, after;
    for (size_t s = 0; s < program_.steps.size(); ++s) {
      const Step& step = program_.steps[s];
      if (phase_[s] != phase) continue;
      const Node& node = *step.node;
      if (node.kind == NodeKind::kReduce) {
        const char* compute = compute_name(node.in[0].dtype);
        const std::string op = str(reduction_name(node.reduce), "<", compute, ">");
        before += str("  ", compute, " a", s, " = ", op, "::identity();\n");
        steps += str("        a", s, " = ", op, "::combine(a", s, ", static_cast<", compute, ">(",
                     name_of(step.arguments[0], phase), "));\n");
        after += str("  const ", type_name(node.out.dtype), " x", s, " = convert<",
                     type_name(node.out.dtype), ">(reduce_row<W, ", op, ">(a", s, ")",
                     node.reduce == ReduceKind::kMean ? str(" / ", compute, "(N)") : "", ");\n");
        continue;
      }
      if (step.once) continue;
      steps += "        " + assigned(static_cast<int>(s));
      if (held_.count(static_cast<int>(s))) steps += str("        k", s, "[p].v[j] = x", s, ";\n");
      for (size_t t = 0; t < program_.stores.size(); ++t) {
        const Store& store = program_.stores[t];
        if (store.step != static_cast<int>(s)) continue;
        const Window& w = store.window;
        parameters_.add(str("char* s", t), parameter_of(w.data));
        results += str("      Values<", type_name(w.dtype), ", V> o", t, ";\n");
        steps += str("        o", t, ".v[j] = x", s, ";\n");
        stores += str("      ", packed(w) ? "store_packed" : "store_each", "(s", t, row_offset(w),
                      " + i * ", item(w), packed(w) ? "" : str(", ", item(w)), ", o", t, ");\n");
      }
    }
    if (steps.empty()) return "";
    return before +
           for_packs(results + "#pragma unroll\n      for (int j = 0; j < V; ++j) {\n" + steps +
                     "      }\n" + stores) +
           after;
  }

  std::string row_stores() {
    std::string text;
    for (size_t t = 0; t < program_.stores.size(); ++t) {
      const Store& store = program_.stores[t];
      if (!program_.steps[static_cast<size_t>(store.step)].once) continue;
      parameters_.add(str("char* s", t), parameter_of(store.window.data));
      text += str("  if (lane == 0) *reinterpret_cast<", type_name(store.window.dtype), "*>(s", t,
                  row_offset(store.window), ") = x", store.step, ";\n");
    }
    return text;
  }

  const Program& program_;
  const Space& space_;
  int64_t vector_ = 1, width_ = 32, packs_ = 1, threads_ = kBlock;
  std::vector<int> phase_, ready_;  // of each step: when it is computed, and when it can be used
  int last_phase_ = 0;
  std::set<int> held_;  // elements' values that a later phase uses
  Parameters parameters_;
};

}  // namespace

KernelSource generate_rows(const Program& program) { return RowWriter(program).write(); }

}  // namespace vt::fuse
