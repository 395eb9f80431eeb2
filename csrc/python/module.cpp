// The module vibetensor._C: what it is put together from, in order.
#include <pybind11/pybind11.h>

#include "python/bind_autocast.h"
#include "python/bind_autograd.h"
#include "python/bind_collectives.h"
#include "python/bind_device.h"
#include "python/bind_dtype.h"
#include "python/bind_fabric.h"
#include "python/bind_fuse.h"
#include "python/bind_graph.h"
#include "python/bind_parallel.h"
#include "python/bind_profiler.h"
#include "python/bind_runtime.h"
#include "python/bind_sharding.h"
#include "python/bind_tunable.h"
#include "python/conversion.h"
#include "python/fabric_type.h"
#include "python/generated.h"
#include "python/size_type.h"
#include "python/tensor_type.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

PyObject* from_numpy(PyObject*, PyObject* array) {
  return guarded([&] { return wrap(tensor_from_numpy(array)); });
}
PyObject* from_dlpack(PyObject*, PyObject* object) {
  return guarded([&] { return wrap(tensor_from_dlpack(object)); });
}

PyMethodDef g_sharing[] = {
    {"from_numpy", from_numpy, METH_O,
     "from_numpy(array) -> Tensor\n\nA CPU tensor over the memory of the array."},
    {"from_dlpack", from_dlpack, METH_O,
     "from_dlpack(object) -> Tensor\n\nA tensor over the memory of an object with __dlpack__, or "
     "of a capsule."},
    {},
};

// place -> names, as the operator table says.
pyb::dict exposed() {
  pyb::dict result;
  for (const Exposed* each = generated_exposed; each->name; ++each) {
    if (!result.contains(each->place)) result[each->place] = pyb::list();
    result[each->place].cast<pyb::list>().append(each->name);
  }
  return result;
}

}  // namespace
}  // namespace vt::py

PYBIND11_MODULE(_C, module) {
  using namespace vt::py;
  module.doc() = "The compiled half of vibetensor.";
  module.attr("__version__") = VT_VERSION;
  pyb::register_exception_translator([](std::exception_ptr failure) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const vt::Error&) { set_error_from_current_exception(); }
  });
  add_error_types(module.ptr());
  add_dtype_type(module.ptr());
  add_device_type(module.ptr());
  add_size_type(module.ptr());
  add_tensor_type(module.ptr());
  add_fabric_tensor_type(module.ptr());
  module.attr("Tensor").attr("__array_priority__") =
      1000;  // NumPy leaves mixed operators to the tensor
  checked(PyModule_AddFunctions(module.ptr(), construct_functions));
  checked(PyModule_AddFunctions(module.ptr(), compare_functions));
  checked(PyModule_AddFunctions(module.ptr(), g_sharing));

  pyb::module_ ops = module.def_submodule("ops", "Every operator of the table as a function.");
  checked(PyModule_AddFunctions(ops.ptr(), generated_functions));
  module.attr("exposed") = exposed();

  bind_autograd(module);
  bind_autocast(module);
  bind_runtime(module);
  bind_properties(module);
  bind_memory(module);
  bind_streams(module);
  bind_graph(module);
  bind_fuse(module);
  bind_profiler(module);
  bind_fabric(module);
  bind_collectives(module);
  bind_sharding(module);
  bind_parallel(module);
  bind_tunable(module);
}
