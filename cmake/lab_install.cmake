# `cmake --install`: the programs, the headers, and the library for find_package(lab), which gives lab::lab.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
get_property(layers GLOBAL PROPERTY LAB_LAYERS)
get_property(programs GLOBAL PROPERTY LAB_PROGRAMS)
list(REMOVE_ITEM layers layer_experiments) # a user brings their own
if(NOT TARGET layer_app)
  return()
endif()

add_library(lab INTERFACE)
add_library(lab::lab ALIAS lab)
target_sources(lab PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_SOURCE_DIR}/include
  FILES ${CMAKE_SOURCE_DIR}/include/lab/lab.h)
target_link_libraries(lab INTERFACE ${layers})

install(TARGETS ${programs})
install(TARGETS lab ${layers} EXPORT lab_targets FILE_SET HEADERS)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/lab)
install(EXPORT lab_targets NAMESPACE lab:: DESTINATION ${package})
install(FILES cmake/lab_libraries.cmake cmake/FindLabTorch.cmake cmake/FindLabCuda.cmake DESTINATION ${package})
configure_package_config_file(cmake/lab-config.cmake.in lab-config.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(lab-config-version.cmake COMPATIBILITY ExactVersion)
install(FILES ${CMAKE_BINARY_DIR}/lab-config.cmake ${CMAKE_BINARY_DIR}/lab-config-version.cmake DESTINATION ${package})
