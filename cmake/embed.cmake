# vt_embed(OUT NAME=FILE...): a C++ source with the text of each file, for the compiler that runs at run time.
function(vt_embed out)
  set(entries "")
  foreach(pair IN LISTS ARGN)
    string(REGEX MATCH "^([^=]+)=(.+)$" ignored ${pair})
    set(name ${CMAKE_MATCH_1})
    set(file ${CMAKE_SOURCE_DIR}/${CMAKE_MATCH_2})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} text)
    # One literal may not be longer than compilers promise to take.
    string(LENGTH "${text}" length)
    set(literals "")
    set(at 0)
    while(at LESS length)
      string(SUBSTRING "${text}" ${at} 8000 part)
      string(APPEND literals "R\"vt(${part})vt\"\n")
      math(EXPR at "${at} + 8000")
    endwhile()
    string(APPEND entries "      {\"${name}\",\n${literals}},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${out} @ONLY CONTENT "// Made by cmake/embed.cmake.
#include \"fuse/source.h\"

namespace vt::fuse {

const std::vector<Header>& embedded() {
  static const std::vector<Header> instance = {
@entries@  };
  return instance;
}

}  // namespace vt::fuse
")
endfunction()
