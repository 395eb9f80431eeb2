# _C: the only part that knows Python.
vt_sources(sources csrc/python)
if(sources)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
                  OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
  find_package(pybind11 CONFIG REQUIRED)
  # NO_EXTRAS: link-time optimisation of this door costs minutes and gains nothing measurable.
  pybind11_add_module(_C MODULE NO_EXTRAS ${sources} ${VT_GENERATED_python})
  target_link_libraries(_C PRIVATE vibetensor)
  target_compile_definitions(_C PRIVATE VT_VERSION="${PROJECT_VERSION}")
  # pybind11 would hide this module's symbols, and with them its copies of inline variables of the core's headers: each
  # side would then see a variable of its own.
  set_target_properties(_C PROPERTIES LINKER_LANGUAGE CXX INSTALL_RPATH "$ORIGIN" CXX_VISIBILITY_PRESET default
                        VISIBILITY_INLINES_HIDDEN OFF)
  if(TARGET vt_codegen)
    add_dependencies(_C vt_codegen)
  endif()
  install(TARGETS _C LIBRARY DESTINATION vibetensor COMPONENT python)
endif()
