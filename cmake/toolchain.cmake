# What every translation unit is compiled with.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# -O3 pays in the vector kernels, which ask for it themselves; elsewhere it costs build time and code size.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-unused-parameter;-fno-semantic-interposition>")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(VT_X86 ON)
  # x86-64-v2 (2009) is what current distributions assume; wider instructions are chosen at run time.
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-march=x86-64-v2>")
endif()

if(VIBETENSOR_SANITIZE)
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${VIBETENSOR_SANITIZE};-fno-omit-frame-pointer;-g>")
  add_link_options("-fsanitize=${VIBETENSOR_SANITIZE}")
endif()

find_program(VT_CCACHE ccache)
if(VT_CCACHE)
  foreach(language C CXX CUDA)
    set(CMAKE_${language}_COMPILER_LAUNCHER ${VT_CCACHE})
  endforeach()
endif()

# Some compilers put the standard library into each shared library. Its names must then stay inside: with PyTorch's copy in
# the process half of a stream would otherwise come from one copy and half from the other.
add_link_options(-Wl,--exclude-libs,ALL)
