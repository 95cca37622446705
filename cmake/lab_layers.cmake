# How a layer and a program are declared, and what all of them are built with.

# ccache looks past a precompiled header only when it is told that nothing depends on its time stamps and macros.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
    CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} ${CCACHE})
  add_compile_options(-fpch-preprocess)
endif()
# Only what a program calls is loaded with it: start-up counts.
add_link_options(-Wl,--as-needed)

add_library(lab_flags INTERFACE)
target_compile_options(lab_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor
  -Woverloaded-virtual -Werror -Wno-restrict) # g++ 12 finds overlaps in std::string's operator+ that are not there
if(LAB_SANITIZE)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(LAB_THREAD_SANITIZE)
  set(sanitizers -fsanitize=thread -fno-omit-frame-pointer)
endif()
target_compile_options(lab_flags INTERFACE ${sanitizers})
target_link_options(lab_flags INTERFACE ${sanitizers})

# Sets `result` to the targets of the named layers, or to NOTFOUND when one of them is not part of this build.
function(lab_find_layers result)
  set(targets "")
  foreach(layer ${ARGN})
    if(NOT TARGET layer_${layer})
      set(${result} NOTFOUND PARENT_SCOPE)
      return()
    endif()
    list(APPEND targets layer_${layer})
  endforeach()
  set(${result} "${targets}" PARENT_SCOPE)
endfunction()

# lab_layer(NAME [TORCH] [USES layers...] [PRIVATE libraries...] [WITHOUT sources...])
# The static library layer_NAME of src/NAME/*.cpp, with its headers in include/lab/NAME. TORCH: it uses torch, and so
# is left out where torch is.
function(lab_layer name)
  cmake_parse_arguments(arg "TORCH" "" "USES;PRIVATE;WITHOUT" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/include/lab/${name}/*.h)
  list(TRANSFORM arg_WITHOUT PREPEND ${CMAKE_SOURCE_DIR}/src/${name}/)
  list(REMOVE_ITEM sources ${arg_WITHOUT})
  lab_find_layers(below ${arg_USES})
  if(NOT sources OR below STREQUAL NOTFOUND OR (arg_TORCH AND NOT TARGET lab_torch))
    message(STATUS "layer ${name} is left out")
    return()
  endif()
  set(target layer_${name})
  add_library(${target} STATIC ${sources})
  add_library(lab::${name} ALIAS ${target})
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_SOURCE_DIR}/include FILES ${headers})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PUBLIC ${below} Threads::Threads
    PRIVATE ${arg_PRIVATE} $<BUILD_INTERFACE:lab_flags>)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} VERIFY_INTERFACE_HEADER_SETS ON)
  if(arg_TORCH)
    target_link_libraries(${target} PUBLIC lab_torch)
    lab_precompile(${target})
    set_property(GLOBAL APPEND PROPERTY LAB_TORCH_LAYERS ${target})
  endif()
  set_property(GLOBAL APPEND PROPERTY LAB_LAYERS ${target})
endfunction()

# lab_program(NAME [TORCH] [USES layers...] [PRIVATE libraries...]): the program of src/tools/NAME.cpp.
function(lab_program name)
  cmake_parse_arguments(arg "TORCH" "" "USES;PRIVATE" ${ARGN})
  lab_find_layers(below ${arg_USES})
  if(NOT EXISTS ${CMAKE_SOURCE_DIR}/src/tools/${name}.cpp OR NOT below)
    message(STATUS "program ${name} is left out")
    return()
  endif()
  add_executable(${name} src/tools/${name}.cpp)
  target_link_libraries(${name} PRIVATE ${below} ${arg_PRIVATE} lab_flags)
  if(arg_TORCH)
    lab_precompile(${name})
  endif()
  set_property(GLOBAL APPEND PROPERTY LAB_PROGRAMS ${name})
endfunction()

# torch's headers take most of a compilation: they are parsed once, here, for all targets.
if(TARGET lab_torch)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/precompiled.cpp CONTENT "")
  add_library(lab_precompiled OBJECT ${CMAKE_BINARY_DIR}/precompiled.cpp)
  target_link_libraries(lab_precompiled PRIVATE lab_torch Threads::Threads lab_flags)
  target_precompile_headers(lab_precompiled PRIVATE <torch/nn.h>)
endif()
function(lab_precompile target)
  target_precompile_headers(${target} REUSE_FROM lab_precompiled)
endfunction()
