# _C: the only part that knows Python.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/python/*.cpp)
if(sources)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
                  OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
  find_package(pybind11 CONFIG REQUIRED)
  # NO_EXTRAS: link-time optimisation of this door costs minutes and gains nothing measurable.
  pybind11_add_module(_C MODULE NO_EXTRAS ${sources} ${VT_GENERATED_python})
  target_include_directories(_C PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/csrc ${VT_GENERATED_DIR})
  target_link_libraries(_C PRIVATE vibetensor)
  target_compile_definitions(_C PRIVATE VT_VERSION="${PROJECT_VERSION}")
  set_target_properties(_C PROPERTIES LINKER_LANGUAGE CXX INSTALL_RPATH "$ORIGIN")
  if(TARGET vt_codegen)
    add_dependencies(_C vt_codegen)
  endif()
  install(TARGETS _C LIBRARY DESTINATION vibetensor COMPONENT python)
endif()
