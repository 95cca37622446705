# What all targets are built with: compiler cache, jobs at a time, warnings, sanitizers, torch's headers precompiled.

# ccache looks past a precompiled header only when it is told that nothing depends on its time stamps and macros.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
    CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=true ${CCACHE})
  add_compile_options(-fpch-preprocess)
endif()

# With torch's headers a compilation takes up to 2 GB: fewer at a time where memory is short.
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
cmake_host_system_information(RESULT memory QUERY TOTAL_PHYSICAL_MEMORY) # MiB
math(EXPR jobs "${memory} / 2048")
if(jobs GREATER cores)
  set(jobs ${cores})
elseif(jobs LESS 1)
  set(jobs 1)
endif()
set_property(GLOBAL PROPERTY JOB_POOLS compile=${jobs})
set(CMAKE_JOB_POOL_COMPILE compile)

# Only what a program calls is loaded with it: start-up counts. Programs find libraries where they were, installed or
# not, and nowhere else: the path that CMake gives to those that are not installed ends in the working folder.
add_link_options(-Wl,--as-needed)
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)

add_library(lab_flags INTERFACE)
# The last ones are what g++ 12 gets wrong about std::string once it optimizes. Other compilers warn of other things:
# warnings are errors with the one that lab is tested with.
target_compile_options(lab_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor
  -Woverloaded-virtual -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-maybe-uninitialized)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\.")
  target_compile_options(lab_flags INTERFACE -Werror)
endif()
if(LAB_SANITIZE)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(LAB_THREAD_SANITIZE)
  set(sanitizers -fsanitize=thread)
endif()
if(sanitizers)
  list(APPEND sanitizers -fno-omit-frame-pointer)
endif()
target_compile_options(lab_flags INTERFACE ${sanitizers})
target_link_options(lab_flags INTERFACE ${sanitizers})

# torch's headers take most of a compilation: they are parsed once, here, for all targets.
if(TARGET lab_torch)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/precompiled.cpp CONTENT "")
  add_library(lab_precompiled OBJECT ${CMAKE_BINARY_DIR}/precompiled.cpp)
  target_link_libraries(lab_precompiled PRIVATE lab_torch Threads::Threads lab_flags)
  target_precompile_headers(lab_precompiled PRIVATE <torch/nn.h>)
endif()
# Whether a source includes torch, directly or by headers of ours.
function(lab_includes_torch file result)
  get_property(known GLOBAL PROPERTY LAB_INCLUDES_TORCH_${file} SET)
  if(NOT known)
    set(found OFF)
    file(STRINGS ${file} lines REGEX "^#include [<\"]")
    foreach(line ${lines})
      string(REGEX REPLACE "^#include [<\"]([^>\"]+).*" "\\1" included "${line}")
      if(included MATCHES "^(torch|ATen|c10)/")
        set(found ON)
      endif()
      foreach(folder include src tests)
        if(NOT found AND EXISTS ${CMAKE_SOURCE_DIR}/${folder}/${included})
          lab_includes_torch(${CMAKE_SOURCE_DIR}/${folder}/${included} found)
        endif()
      endforeach()
    endforeach()
    set_property(GLOBAL PROPERTY LAB_INCLUDES_TORCH_${file} ${found})
  endif()
  get_property(found GLOBAL PROPERTY LAB_INCLUDES_TORCH_${file})
  set(${result} ${found} PARENT_SCOPE)
endfunction()

# Torch's headers, precompiled, for the sources that include them; loading them costs the others more than all else.
function(lab_precompile target)
  target_precompile_headers(${target} REUSE_FROM lab_precompiled)
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    cmake_path(ABSOLUTE_PATH source)
    if(source MATCHES "[.]cpp$")
      lab_includes_torch(${source} with_torch)
      if(NOT with_torch)
        set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
      endif()
    endif()
  endforeach()
endfunction()
