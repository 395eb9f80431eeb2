// Convolutions through cuDNN's graph API, forward and both gradients.
#include "base/error.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vendor/cudnn/library.h"
#include "kernels/cuda/vendor/cudnn/plans.h"
#include "kernels/settings.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

namespace fe = cudnn_frontend;
using cudnn::Plan;
using cudnn::TensorHandle;

enum Uid : int64_t { kInput = 1, kWeight, kOutput };

// Everything that a plan depends on.
struct Key {
  int64_t dtype, pass, channels_last, deterministic, tf32;
  int64_t n, channels, outputs, groups;
  int64_t size[2], kernel[2], out_size[2], stride[2], padding[2], dilation[2];
};

bool tf32_allowed() {
  const KernelSettings& settings = kernel_settings();
  return settings.cudnn_tf32 || settings.float32_products == Float32Products::kTF32;
}

Key make_key(const Convolution& c) {
  Key key{};
  key.dtype = static_cast<int64_t>(c.dtype);
  key.pass = static_cast<int64_t>(c.pass);
  key.channels_last = c.channels_last;
  key.deterministic = kernel_settings().cudnn_deterministic;
  key.tf32 = c.dtype == DType::kF32 && tf32_allowed();
  key.n = c.n;
  key.channels = c.channels;
  key.outputs = c.outputs;
  key.groups = c.groups;
  for (int i = 0; i < 2; ++i) {
    key.size[i] = c.size[i];
    key.kernel[i] = c.kernel[i];
    key.out_size[i] = c.out_size[i];
    key.stride[i] = c.stride[i];
    key.padding[i] = c.padding[i];
    key.dilation[i] = c.dilation[i];
  }
  return key;
}

fe::DataType_t data_type(const Key& key) {
  const auto dtype = static_cast<DType>(key.dtype);
  if (dtype == DType::kF32) return fe::DataType_t::FLOAT;
  return dtype == DType::kF16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16;
}

class Builder {
 public:
  Builder(const Key& key, fe::graph::Graph& graph) : key_(key), graph_(graph) {
    graph.set_io_data_type(data_type(key))
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  void build() {
    switch (static_cast<ConvolutionPass>(key_.pass)) {
      case ConvolutionPass::kOutput:
        return result(
            graph_.conv_fprop(input(), weight(), with<fe::graph::Conv_fprop_attributes>()),
            kOutput);
      case ConvolutionPass::kInput:
        return result(
            graph_.conv_dgrad(output(), weight(), with<fe::graph::Conv_dgrad_attributes>()),
            kInput);
      case ConvolutionPass::kWeight:
        return result(
            graph_.conv_wgrad(output(), input(), with<fe::graph::Conv_wgrad_attributes>()),
            kWeight);
    }
  }

 private:
  template <class Attributes>
  Attributes with() const {
    return Attributes()
        .set_padding({key_.padding[0], key_.padding[1]})
        .set_stride({key_.stride[0], key_.stride[1]})
        .set_dilation({key_.dilation[0], key_.dilation[1]});
  }

  std::vector<int64_t> sizes(Uid uid) const {
    if (uid == kInput) return {key_.n, key_.channels, key_.size[0], key_.size[1]};
    if (uid == kOutput) return {key_.n, key_.outputs, key_.out_size[0], key_.out_size[1]};
    return {key_.outputs, key_.channels / key_.groups, key_.kernel[0], key_.kernel[1]};
  }
  std::vector<int64_t> strides(Uid uid) const {
    const auto s = sizes(uid);
    if (key_.channels_last) return {s[1] * s[2] * s[3], 1, s[1] * s[3], s[1]};
    return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
  }

  TensorHandle given(const char* name, Uid uid) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_uid(uid)
                             .set_dim(sizes(uid))
                             .set_stride(strides(uid)));
  }
  TensorHandle input() { return given("input", kInput); }
  TensorHandle weight() { return given("weight", kWeight); }
  TensorHandle output() { return given("output", kOutput); }

  void result(const TensorHandle& t, Uid uid) {
    t->set_output(true).set_uid(uid).set_dim(sizes(uid)).set_stride(strides(uid));
  }

  const Key& key_;
  fe::graph::Graph& graph_;
};

// Columns would take as much for a convolution of many channels.
constexpr int64_t kMostWorkspace = int64_t{1} << 30;

cudnn::Limits limits(const Key& key) {
  cudnn::Limits limits{{fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION}, kMostWorkspace};
  if (key.deterministic) limits.without.push_back(fe::NumericalNote_t::NONDETERMINISTIC);
  if (static_cast<DType>(key.dtype) == DType::kF32 && !key.tf32) {
    limits.without.push_back(fe::NumericalNote_t::TENSOR_CORE);
    limits.without.push_back(fe::NumericalNote_t::DOWN_CONVERT_INPUTS);
  }
  return limits;
}

// cuDNN's deterministic float32 weight gradients of 1x1 kernels and of strided ones are slow: on an
// H200 both gradients as products on tensor cores took 0.43 to 0.78 of its time. That was seen with
// more than this many terms.
constexpr int64_t kManyTerms = int64_t{1} << 30;

bool products_are_faster(const Convolution& c) {
  const KernelSettings& settings = kernel_settings();
  if (c.pass != ConvolutionPass::kWeight || c.dtype != DType::kF32 || c.groups != 1 ||
      !settings.cudnn_deterministic || settings.float32_products != Float32Products::kBF16x6 ||
      settings.cudnn_tf32)
    return false;
  const bool strided = c.stride[0] > 1 || c.stride[1] > 1;
  const int64_t places = c.kernel[0] * c.kernel[1];
  const int64_t columns = c.channels * places * c.n * c.out_size[0] * c.out_size[1];
  return (strided || places == 1) && columns >= kManyTerms / c.outputs &&
         columns <= kMostWorkspace / static_cast<int64_t>(sizeof(float));
}

std::unique_ptr<Plan> build(const Key& key, cudnnHandle_t handle) {
  auto plan = std::make_unique<Plan>();
  Builder(key, plan->graph).build();
  cudnn::finish(*plan, handle, {fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}, limits(key));
  return plan;
}

}  // namespace

void convolution(const Convolution& c, bool* done) {
  *done = false;
  if (c.dtype == DType::kF64 || !kernel_settings().cudnn_enabled ||
      !cudnn::unavailable_reason().empty() || products_are_faster(c))
    return;
  const Queue queue("convolution", c.device);
  const cudnn::Handle handle(c.device.index);
  Plan& plan = cudnn::plan_for(c.device.index, make_key(c), handle.get(), &build);
  if (!plan.refusal.empty()) return;
  std::unordered_map<int64_t, void*> pack{
      {kInput, c.input}, {kWeight, c.weight}, {kOutput, c.output}};
  const Scratch<char> workspace(queue, plan.workspace);
  fe::error_t error = plan.graph.execute(handle.get(), pack, workspace.get());
  VT_CHECK(error.is_good(), kRuntime, "convolution: cuDNN failed for ", c.n, " images of ",
           c.channels, 'x', c.size[0], 'x', c.size[1], " and ", c.outputs, " kernels of ",
           c.kernel[0], 'x', c.kernel[1], " in ", c.groups, " groups of ", name(c.dtype), " on ",
           c.device, ": ", error.get_message());
  *done = true;
}

}  // namespace vt::cuda
