# OpenBLAS from the scipy-openblas32 wheel: symbols are prefixed with scipy_, so it lives beside NumPy's own copy.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import scipy_openblas32 as b; print(b.get_include_dir() + ';' + b.get_lib_dir(), end='')"
  OUTPUT_VARIABLE folders RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "scipy-openblas32 is missing: ${Python_EXECUTABLE} -m pip install scipy-openblas32")
endif()
list(GET folders 0 include)
list(GET folders 1 lib)
set(VT_OPENBLAS_LIBRARY ${lib}/libscipy_openblas.so)
add_library(openblas SHARED IMPORTED)
set_target_properties(openblas PROPERTIES IMPORTED_LOCATION ${VT_OPENBLAS_LIBRARY}
                      INTERFACE_INCLUDE_DIRECTORIES ${include})
