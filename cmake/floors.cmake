# A floor is one OBJECT library: objects, not an archive, so that no registration is lost in the link.

# The sources below DIR that belong to this build: of cuda/ and no_cuda/ one, of cudnn/ and no_cudnn/ one, and simd/
# apart (vt_isa_variants).
function(vt_sources out dir)
  # Matched inside the checkout only: the path to it may well have a folder named cuda.
  file(GLOB_RECURSE found RELATIVE ${CMAKE_SOURCE_DIR}/${dir} CONFIGURE_DEPENDS
       ${CMAKE_SOURCE_DIR}/${dir}/*.cpp ${CMAKE_SOURCE_DIR}/${dir}/*.cu)
  if(VT_CUDA)
    list(FILTER found EXCLUDE REGEX "(^|/)(no_cuda|simd)/")
  else()
    list(FILTER found EXCLUDE REGEX "(^|/)(cuda|simd)/|\\.cu$")
  endif()
  if(VT_CUDNN)
    list(FILTER found EXCLUDE REGEX "/no_cudnn/")
  else()
    list(FILTER found EXCLUDE REGEX "/cudnn/")
  endif()
  list(TRANSFORM found PREPEND ${CMAKE_SOURCE_DIR}/${dir}/)
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

# vt_floor(NAME DIR [BELOW floors...] [LINK libraries...]): the sources below DIR, plus the generated ones.
function(vt_floor name dir)
  cmake_parse_arguments(arg "" "" "BELOW;LINK" ${ARGN})
  vt_sources(sources ${dir})
  list(APPEND sources ${VT_GENERATED_${name}})

  if(sources)
    add_library(vt_${name} OBJECT ${sources})
    set(scope PUBLIC)
    if(TARGET vt_codegen)
      add_dependencies(vt_${name} vt_codegen)
    endif()
  else()
    add_library(vt_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(vt_${name} ${scope} ${VT_INCLUDE_DIRS})
  list(TRANSFORM arg_BELOW PREPEND vt_)
  target_link_libraries(vt_${name} ${scope} ${arg_BELOW} ${arg_LINK} Threads::Threads ${CMAKE_DL_LIBS})
  if(VT_CUDA)
    target_link_libraries(vt_${name} ${scope} CUDA::cudart_static)
  endif()
  vt_isa_variants(${name} ${dir} LINK ${arg_BELOW} ${arg_LINK})
  set_property(GLOBAL APPEND PROPERTY VT_FLOORS vt_${name})
  set_property(GLOBAL APPEND PROPERTY VT_SOURCES ${sources})
  set_property(GLOBAL PROPERTY VT_SOURCES_${name} "${sources}")
endfunction()

# vt_isa_variants(FLOOR DIR LINK libraries...): compiles the sources in folders simd/ once for each instruction set, each
# time in a namespace named VT_ISA; the CPU picks one at run time.
#
# Of an inline function outside that namespace the linker keeps the first copy that it meets. Therefore vt_objects lists
# the plain floors first and the widest instruction set last: what they share then runs on every CPU.
function(vt_isa_variants floor dir)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.cpp)
  list(FILTER sources INCLUDE REGEX "/simd/[^/]*$")
  list(APPEND sources ${VT_GENERATED_${floor}_simd})
  if(NOT sources)
    return()
  endif()
  set(variants base)
  if(VT_X86)
    list(APPEND variants avx2 avx512)
    set(flags_base -march=x86-64-v2)
    set(flags_avx2 -march=x86-64-v3)
    set(flags_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  endif()
  foreach(isa IN LISTS variants)
    set(target vt_${floor}_${isa})
    add_library(${target} OBJECT ${sources})
    target_compile_definitions(${target} PRIVATE VT_ISA=${isa})
    target_compile_options(${target} PRIVATE
      ${flags_${isa}} -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast)
    target_link_libraries(${target} PRIVATE ${arg_LINK})
    if(TARGET vt_codegen)
      add_dependencies(${target} vt_codegen)
    endif()
    set_property(GLOBAL APPEND PROPERTY VT_OBJECTS_${isa} ${target})
  endforeach()
endfunction()

# Every object library, in the order in which they are linked.
function(vt_objects out)
  set(${out} "")
  foreach(group VT_FLOORS VT_OBJECTS_base VT_OBJECTS_avx2 VT_OBJECTS_avx512)
    get_property(members GLOBAL PROPERTY ${group})
    list(APPEND ${out} ${members})
  endforeach()
  set(${out} "${${out}}" PARENT_SCOPE)
endfunction()
