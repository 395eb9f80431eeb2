// The text of a tensor, as torch prints it: aligned columns, large tensors by their edges.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "autograd/variable.h"
#include "ops/ops.h"
#include "python/conversion.h"
#include "python/parse.h"

namespace vt::py {
namespace {

constexpr int64_t kEdge = 3;          // elements shown at each end of a summarised dimension
constexpr int64_t kThreshold = 1000;  // more elements than this are summarised
constexpr int kLineWidth = 80;
constexpr int kPrecision = 4;

std::string printed(const char* format, int precision, double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char text[400];
  std::snprintf(text, sizeof(text), format, precision, value);
  return text;
}

// Only the edges of the long dimensions, as a tensor that is small enough to print whole.
Tensor edges_of(Tensor t) {
  for (int d = 0; d < t.dim(); ++d) {
    const int64_t size = t.sizes()[d];
    if (size > 2 * kEdge)
      t = cat({slice(t, d, 0, kEdge, 1), slice(t, d, size - kEdge, size, 1)}, d);
  }
  return t;
}

// How the numbers of one tensor are written: chosen once, so that columns line up.
class Format {
 public:
  Format(DType dtype, const std::vector<Scalar>& values) : is_float_(is_float(dtype)) {
    if (is_float_) choose(values);
    for (Scalar value : values) {
      if (counts(value)) width_ = std::max(width_, text(value).size());
    }
  }

  size_t width() const { return width_; }
  std::string operator()(Scalar value) const {
    const std::string plain = text(value);
    return std::string(width_ > plain.size() ? width_ - plain.size() : 0, ' ') + plain;
  }

 private:
  // Zeros, infinities and NaN have no say in how the other floats are written.
  bool counts(Scalar value) const {
    return !is_float_ || (std::isfinite(value.to<double>()) && value.to<double>() != 0);
  }

  void choose(const std::vector<Scalar>& values) {
    double low = INFINITY, high = 0;
    for (Scalar value : values) {
      if (!counts(value)) continue;
      const double x = std::abs(value.to<double>());
      low = std::min(low, x);
      high = std::max(high, x);
      whole_ = whole_ && x == std::ceil(x);
    }
    if (high == 0) return;
    scientific_ = high / low > 1000 || high > 1e8 || (!whole_ && low < 1e-4);
  }

  std::string text(Scalar value) const {
    if (value.is_bool()) return value.to<bool>() ? "True" : "False";
    if (!is_float_) return std::to_string(value.to<int64_t>());
    const double x = value.to<double>();
    if (scientific_) return printed("%.*e", kPrecision, x);
    if (whole_) return printed("%.*f", 0, x) + (std::isfinite(x) ? "." : "");
    return printed("%.*f", kPrecision, x);
  }

  bool is_float_;
  bool whole_ = true;
  bool scientific_ = false;
  size_t width_ = 1;
};

// The nested brackets. `shown` holds the edges where `full` is cut.
class Layout {
 public:
  Layout(const Dims& shown, const Dims& full, const std::vector<Scalar>& values,
         const Format& format)
      : shown_(shown), full_(full), values_(values), format_(format) {}

  std::string nested(int dim, size_t indent) {
    if (dim == shown_.size()) return format_(values_[next_++]);
    const bool last = dim == shown_.size() - 1;
    std::vector<std::string> pieces;
    for (int64_t i = 0; i < shown_[dim]; ++i) {
      if (full_[dim] > shown_[dim] && i == kEdge) pieces.push_back(last ? " ..." : "...");
      pieces.push_back(nested(dim + 1, indent + 1));
    }
    return "[" + (last ? line(pieces, indent) : block(pieces, indent, shown_.size() - dim - 1)) +
           "]";
  }

 private:
  std::string line(const std::vector<std::string>& pieces, size_t indent) const {
    const size_t per_line = std::max<size_t>(
        1, (kLineWidth - std::min<size_t>(indent, kLineWidth)) / (format_.width() + 2));
    std::string out;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (i > 0) out += i % per_line == 0 ? ",\n" + std::string(indent + 1, ' ') : ", ";
      out += pieces[i];
    }
    return out;
  }

  static std::string block(const std::vector<std::string>& pieces, size_t indent, int newlines) {
    std::string out;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (i > 0) out += "," + std::string(newlines, '\n') + std::string(indent + 1, ' ');
      out += pieces[i];
    }
    return out;
  }

  const Dims& shown_;
  const Dims& full_;
  const std::vector<Scalar>& values_;
  const Format& format_;
  size_t next_ = 0;
};

std::vector<Scalar> values_of(const Tensor& dense) {
  std::vector<Scalar> values;
  values.reserve(static_cast<size_t>(dense.numel()));
  const Tensor flat = view(dense, {dense.numel()});
  for (int64_t i = 0; i < flat.numel(); ++i)
    values.push_back(item(view_of(flat, {}, {}, flat.offset() + i)));
  return values;
}

std::vector<std::string> suffixes_of(const Tensor& t) {
  std::vector<std::string> suffixes;
  if (t.device().is_cuda() || t.device().index > 0)
    suffixes.push_back(str("device='", t.device(), "'"));
  if (t.numel() == 0 && t.dim() != 1) {
    std::string sizes = "(";
    for (int64_t size : t.sizes()) sizes += str(sizes.size() > 1 ? ", " : "", size);
    suffixes.push_back("size=" + sizes + ")");
  }
  const DType d = t.dtype();
  const bool is_default =
      d == DType::kF32 || (t.numel() > 0 && (d == DType::kI64 || d == DType::kBool));
  if (!is_default) suffixes.push_back(str("dtype=torch.", name(d)));
  if (const Ref<Node> node = grad_fn(t)) suffixes.push_back(str("grad_fn=<", node->name(), ">"));
  else if (t.requires_grad()) suffixes.push_back("requires_grad=True");
  return suffixes;
}

}  // namespace

std::string repr(const Tensor& t) {
  const std::string prefix = "tensor(";
  std::string out = prefix;
  if (t.numel() == 0) {
    out += "[]";
  } else {
    GradMode no_grad(false);
    const Tensor whole = alias(t);
    const Tensor shown =
        contiguous(to_device(t.numel() > kThreshold ? edges_of(whole) : whole, {}, false));
    const std::vector<Scalar> values = values_of(shown);
    const Format format(t.dtype(), values);
    out += Layout(shown.sizes(), t.sizes(), values, format).nested(0, prefix.size());
  }
  const size_t line_break = out.rfind('\n');
  size_t used = out.size() - (line_break == std::string::npos ? 0 : line_break + 1) + 2;
  for (const std::string& suffix : suffixes_of(t)) {
    if (used + suffix.size() + 2 > kLineWidth) {
      out += ",\n" + std::string(prefix.size(), ' ') + suffix;
      used = prefix.size() + suffix.size();
    } else {
      out += ", " + suffix;
      used += suffix.size() + 2;
    }
  }
  return out + ")";
}

PyObject* repr_slot(PyObject* self) {
  return guarded([&] {
    const std::string text = repr(unwrap(self));
    return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  });
}

}  // namespace vt::py
