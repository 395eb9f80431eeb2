# OpenBLAS from the scipy-openblas32 wheel: symbols are prefixed with scipy_, so it lives beside NumPy's own copy.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c [[
import importlib.metadata as metadata
import scipy_openblas32 as blas
licence = next(f for f in metadata.files("scipy-openblas32") if f.name.startswith("LICENSE"))
print(blas.get_include_dir(), blas.get_lib_dir(), licence.locate(), sep=";", end="")
]]
  OUTPUT_VARIABLE paths RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "scipy-openblas32 is missing: ${Python_EXECUTABLE} -m pip install scipy-openblas32")
endif()
list(GET paths 0 include)
list(GET paths 1 lib)
list(GET paths 2 licence)
add_library(openblas SHARED IMPORTED)
set_target_properties(openblas PROPERTIES IMPORTED_LOCATION ${lib}/libscipy_openblas.so
                      INTERFACE_INCLUDE_DIRECTORIES ${include})
install(FILES ${lib}/libscipy_openblas.so DESTINATION vibetensor COMPONENT python)
install(FILES ${licence} DESTINATION vibetensor COMPONENT python RENAME libscipy_openblas.LICENSE)
