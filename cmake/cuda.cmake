# Decides whether the CUDA half is built (VT_CUDA), and for which GPUs. A floor then takes its folder cuda/, or else
# no_cuda/, whose functions say that this build has no CUDA.
if(VIBETENSOR_CUDA STREQUAL "OFF")
  set(VT_CUDA OFF)
else()
  find_program(VT_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
  if(VT_NVCC)
    set(VT_CUDA ON)
  elseif(VIBETENSOR_CUDA STREQUAL "ON")
    message(FATAL_ERROR "VIBETENSOR_CUDA=ON, but there is no nvcc on PATH, in $CUDA_HOME/bin or in /usr/local/cuda/bin")
  else()
    set(VT_CUDA OFF)
  endif()
endif()

# The architecture of each GPU of this machine as CMake spells it; from 9.0 on with the 'a' that wgmma and TMA need.
function(vt_present_archs out)
  set(archs "")
  find_program(VT_NVIDIA_SMI nvidia-smi)
  if(VT_NVIDIA_SMI)
    execute_process(COMMAND ${VT_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE text RESULT_VARIABLE code ERROR_QUIET)
    if(code EQUAL 0)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]+" capabilities "${text}")
      foreach(capability IN LISTS capabilities)
        string(REPLACE "." "" number ${capability})
        if(number GREATER_EQUAL 90)
          list(APPEND archs ${number}a-real)
        else()
          list(APPEND archs ${number}-real)
        endif()
      endforeach()
      list(REMOVE_DUPLICATES archs)
    endif()
  endif()
  set(${out} "${archs}" PARENT_SCOPE)
endfunction()

if(VT_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${VT_NVCC})
  endif()
  if(VIBETENSOR_RELEASE_ARCHS)
    # The one virtual architecture lets a GPU newer than this list compile at first use.
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 100a-real 103a-real 120a-real 80-virtual)
  elseif(NOT CMAKE_CUDA_ARCHITECTURES)
    vt_present_archs(CMAKE_CUDA_ARCHITECTURES)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 90a-real)
    endif()
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)  # the first that knows __maxnreg__
    message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} is of CUDA ${CMAKE_CUDA_COMPILER_VERSION}, 12.4 or newer is needed. Without "
                        "the CUDA half: CMAKE_ARGS=-DVIBETENSOR_CUDA=OFF")
  endif()
  find_package(CUDAToolkit REQUIRED)
  add_compile_definitions(VT_WITH_CUDA=1)
  # 2908: CuTe's implicit 'this' captures. -compress-all: the device code shrinks to a quarter.
  add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Xfatbin=-compress-all;--expt-relaxed-constexpr;--extended-lambda;-diag-suppress=2908>")
  message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
else()
  message(STATUS "CUDA: not built")
endif()

# CUTLASS is headers only. Its wheel also carries a heavy Python side, so it is fetched without dependencies. Where the
# headers can neither be found nor fetched, the folders no_cute/ stand in for cute/.
set(VIBETENSOR_CUTLASS_INCLUDE_DIR "" CACHE PATH "Folder of cute/ and cutlass/; empty: looked for, else fetched")
set(VT_CUTE OFF)
function(vt_find_cutlass)
  if(NOT VT_CUDA)
    return()
  endif()
  set(fetched ${CMAKE_BINARY_DIR}/cutlass/cutlass_library/source/include)
  find_path(VT_CUTLASS_INCLUDE cute/tensor.hpp HINTS ${VIBETENSOR_CUTLASS_INCLUDE_DIR} ${fetched} NO_DEFAULT_PATH)
  if(NOT VT_CUTLASS_INCLUDE)
    message(STATUS "Fetching the CUTLASS headers")
    execute_process(
      COMMAND ${Python_EXECUTABLE} -m pip install --quiet --no-deps --disable-pip-version-check --retries 1
              --target ${CMAKE_BINARY_DIR}/cutlass nvidia-cutlass==4.2.0.0
      ERROR_QUIET)
    unset(VT_CUTLASS_INCLUDE CACHE)
    find_path(VT_CUTLASS_INCLUDE cute/tensor.hpp HINTS ${fetched} NO_DEFAULT_PATH)
  endif()
  if(VT_CUTLASS_INCLUDE)
    message(STATUS "CUTLASS headers: ${VT_CUTLASS_INCLUDE}")
    set(VT_CUTE ON PARENT_SCOPE)
  else()
    message(WARNING "pip could not fetch nvidia-cutlass==4.2.0.0 and -DVIBETENSOR_CUTLASS_INCLUDE_DIR names no folder with cute/tensor.hpp: built without the ring and without kernels for products with GELU")
  endif()
endfunction()

# After the floors: the floor named includes CUTLASS's headers.
function(vt_use_cutlass floor)
  if(VT_CUTE)
    target_include_directories(vt_${floor} SYSTEM PRIVATE ${VT_CUTLASS_INCLUDE})
  endif()
endfunction()

# cuDNN is opened at run time; building needs its C headers (the wheel nvidia-cudnn-cu13 has them) and NVIDIA's
# header-only frontend. Where the headers are not found, kernels/cuda/vendor/no_cudnn stands in.
set(VIBETENSOR_CUDNN_INCLUDE_DIR "" CACHE PATH "Folder of cudnn.h; empty: looked for")
set(VIBETENSOR_CUDNN_FRONTEND_DIR "" CACHE PATH "Folder of cudnn_frontend.h; empty: looked for, else fetched")
set(VT_CUDNN OFF)
function(vt_find_cudnn)
  if(NOT VT_CUDA)
    return()
  endif()
  # Wheels put the first in site-packages/nvidia/cudnn/include and the second in site-packages/include.
  execute_process(COMMAND ${Python_EXECUTABLE} -c "import sys; print(';'.join(p for p in sys.path if p))"
                  OUTPUT_VARIABLE site OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(TRANSFORM site APPEND /nvidia/cudnn/include OUTPUT_VARIABLE wheels)
  list(TRANSFORM site APPEND /include)
  set(hints ${VIBETENSOR_CUDNN_INCLUDE_DIR} ${wheels} ${CUDAToolkit_INCLUDE_DIRS})
  find_path(VT_CUDNN_INCLUDE cudnn.h HINTS ${hints})
  if(NOT VT_CUDNN_INCLUDE)
    message(STATUS "cuDNN: no cudnn.h (pip install nvidia-cudnn-cu13, or -DVIBETENSOR_CUDNN_INCLUDE_DIR); built without")
    return()
  endif()
  find_path(VT_CUDNN_FRONTEND cudnn_frontend.h
            HINTS ${VIBETENSOR_CUDNN_FRONTEND_DIR} ${site} ${CMAKE_BINARY_DIR}/cudnn_frontend/include)
  if(NOT VT_CUDNN_FRONTEND)
    message(STATUS "Fetching the cuDNN frontend headers")
    execute_process(
      COMMAND ${Python_EXECUTABLE} -m pip install --quiet --no-deps --disable-pip-version-check
              --target ${CMAKE_BINARY_DIR}/cudnn_frontend nvidia-cudnn-frontend==1.18.0
      RESULT_VARIABLE code)
    unset(VT_CUDNN_FRONTEND CACHE)
    find_path(VT_CUDNN_FRONTEND cudnn_frontend.h HINTS ${CMAKE_BINARY_DIR}/cudnn_frontend/include)
    if(NOT code EQUAL 0 OR NOT VT_CUDNN_FRONTEND)
      message(FATAL_ERROR "pip could not install nvidia-cudnn-frontend==1.18.0; name the folder of cudnn_frontend.h with -DVIBETENSOR_CUDNN_FRONTEND_DIR")
    endif()
  endif()
  message(STATUS "cuDNN headers: ${VT_CUDNN_INCLUDE}, frontend: ${VT_CUDNN_FRONTEND}")
  set(VT_CUDNN ON PARENT_SCOPE)
endfunction()

# After the floors: the floor named includes cuDNN's headers.
function(vt_use_cudnn floor)
  if(VT_CUDNN)
    target_include_directories(vt_${floor} SYSTEM PRIVATE ${VT_CUDNN_FRONTEND} ${VT_CUDNN_INCLUDE})
  endif()
endfunction()
