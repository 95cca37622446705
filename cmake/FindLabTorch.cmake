# Finds libtorch and makes the target lab_torch of it: headers, libc10 and libtorch_cpu. torch's own TorchConfig.cmake
# insists on a CUDA toolkit when the wheel was built with CUDA, which a CPU machine does not have.
#
# Looks in LAB_TORCH, Torch_DIR, CMAKE_PREFIX_PATH, the active Python's packages, then where scripts/setup puts it; takes
# the first whose version fits, and with LAB_CUDA has all that GPUs need. `cmake [-DLAB_CUDA=ON] -P
# cmake/FindLabTorch.cmake` prints what it finds, for scripts/setup.
if(NOT LabTorch_WANTED)
  set(LabTorch_WANTED 2.11)
endif()

set(_candidates "${LAB_TORCH}" "$ENV{LAB_TORCH}")
foreach(_folder "${Torch_DIR}" "$ENV{Torch_DIR}")
  if(_folder)
    list(APPEND _candidates ${_folder}/../../..) # Torch_DIR is torch/share/cmake/Torch
  endif()
endforeach()
string(REPLACE ":" ";" _prefixes "$ENV{CMAKE_PREFIX_PATH}")
foreach(_prefix ${CMAKE_PREFIX_PATH} ${_prefixes})
  list(APPEND _candidates ${_prefix} ${_prefix}/torch ${_prefix}/../..)
endforeach()
execute_process(
  COMMAND python3 -c "import importlib.util as u; s = u.find_spec('torch'); print(*s.submodule_search_locations)"
  OUTPUT_VARIABLE _active OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
list(APPEND _candidates "${_active}")
set(_cache "$ENV{HOME}/.cache/lab") # of scripts/setup
list(APPEND _candidates ${_cache}/torch-2.11.0/torch ${_cache}/torch-2.11.0-cuda/torch)
file(GLOB _venvs ${_cache}/test-venv-????????/lib/python*/site-packages/torch) # not what is still being installed
set(_dated "")
foreach(_venv ${_venvs})
  file(TIMESTAMP ${_venv} _seconds %s)
  list(APPEND _dated "${_seconds} ${_venv}")
endforeach()
list(SORT _dated COMPARE NATURAL ORDER DESCENDING) # the newest first
list(TRANSFORM _dated REPLACE "^[0-9]+ " "")
list(APPEND _candidates ${_dated})

# A toolkit's headers will do where those of the wheels are not all there, if they are of the same version.
set(LabCuda_TOOLKITS "")
foreach(_toolkit $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
  if(LAB_CUDA AND EXISTS ${_toolkit}/include/crt/host_config.h AND EXISTS ${_toolkit}/include/cuda_runtime_api.h)
    file(STRINGS ${_toolkit}/include/cuda_runtime_api.h _version REGEX "define CUDART_VERSION +13")
    if(_version)
      list(APPEND LabCuda_TOOLKITS ${_toolkit})
    endif()
  endif()
endforeach()

unset(LabTorch_ROOT)
foreach(_candidate ${_candidates})
  if(NOT EXISTS ${_candidate}/lib/libtorch_cpu.so OR NOT EXISTS ${_candidate}/include/torch/csrc/api/include/torch/nn.h)
    continue()
  endif()
  if(LAB_CUDA AND NOT EXISTS ${_candidate}/../nvidia/nccl) # one for CPUs: what libtorch_cuda needs is not there
    continue()
  endif()
  if(LAB_CUDA AND NOT EXISTS ${_candidate}/../nvidia/cu13/include/crt/host_config.h AND NOT LabCuda_TOOLKITS)
    message(STATUS "passing over torch in ${_candidate}: it lacks nvidia-cuda-crt and nvidia-cuda-cccl, headers of CUDA")
    continue()
  endif()
  file(GLOB _headers ${_candidate}/include/torch/headeronly/version.h
    ${_candidate}/include/torch/csrc/api/include/torch/version.h)
  set(_version "")
  foreach(_header ${_headers})
    file(STRINGS ${_header} _numbers REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+$")
    list(TRANSFORM _numbers REPLACE ".* " "")
    list(JOIN _numbers "." _numbers)
    string(APPEND _version "${_numbers}")
  endforeach()
  if("${_version}." MATCHES "^${LabTorch_WANTED}\\.")
    get_filename_component(LabTorch_ROOT ${_candidate} REALPATH)
    set(LabTorch_VERSION ${_version})
    break()
  endif()
  message(STATUS "passing over torch ${_version} in ${_candidate}: lab wants ${LabTorch_WANTED}")
endforeach()
if(CMAKE_SCRIPT_MODE_FILE)
  message("${LabTorch_ROOT}")
  return()
endif()

# Has programs load libtorch by its path, and before it what it needs. By its name they would search its folder first for
# each of their libraries, and it the folders of all of NVIDIA's wheels for what it needs: more file-system calls on each
# rank than all else together. What a program is told to load is the name that a library gives itself; so an empty one
# that is named by the path of another stands before that.
function(lab_by_path out torch)
  get_filename_component(cuda ${torch}/../nvidia/cu13/lib ABSOLUTE)
  file(GLOB libraries ${torch}/lib/libgomp*.so.* ${cuda}/libcudart.so.* ${cuda}/libcupti.so.*)
  set(found -Wl,--push-state,--no-as-needed)
  foreach(library ${libraries} ${torch}/lib/libc10.so ${torch}/lib/libtorch_cpu.so)
    get_filename_component(name ${library} NAME)
    set(stand_in ${CMAKE_BINARY_DIR}/by_path/${name})
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/by_path)
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} -shared -nostdlib -Wl,-soname,${library} -o ${stand_in} -x c++ /dev/null
      COMMAND_ERROR_IS_FATAL ANY)
    list(APPEND found -Wl,${stand_in})
  endforeach()
  foreach(name librt.so.1 libdl.so.2 libpthread.so.0) # empty ones of the C library, which libtorch_cpu still names
    find_library(library ${name} NO_CACHE)
    if(library)
      list(APPEND found -Wl,${library})
    endif()
    unset(library)
  endforeach()
  list(APPEND found -Wl,--pop-state -Wl,${torch}/lib/libtorch_cpu.so -Wl,${torch}/lib/libc10.so)
  set(${out} ${found} PARENT_SCOPE)
endfunction()

set(_kind "")
set(_flag "")
if(LAB_CUDA)
  set(_kind " with NVIDIA's wheels beside it")
  set(_flag " --cuda")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LabTorch REQUIRED_VARS LabTorch_ROOT VERSION_VAR LabTorch_VERSION
  REASON_FAILURE_MESSAGE "no torch ${LabTorch_WANTED}${_kind} found: run scripts/setup${_flag}, or set LAB_TORCH to the folder that holds lib/libtorch_cpu.so")
if(LabTorch_FOUND AND NOT TARGET lab_torch)
  add_library(lab_torch INTERFACE IMPORTED)
  target_include_directories(lab_torch INTERFACE ${LabTorch_ROOT}/include ${LabTorch_ROOT}/include/torch/csrc/api/include)
  lab_by_path(_torch ${LabTorch_ROOT})
  # libtorch_cpu exports parts of the C++ library: behind our own, lest programs without torch load it for std::filesystem.
  # Programs with the property LAB_WITHOUT_TORCH link layers that use torch, but none of what does: they load nothing of it.
  set(_without $<BOOL:$<TARGET_PROPERTY:LAB_WITHOUT_TORCH>>)
  target_link_libraries(lab_torch INTERFACE stdc++ "$<$<NOT:${_without}>:${_torch}>"
    "$<${_without}:${LabTorch_ROOT}/lib/libtorch_cpu.so;${LabTorch_ROOT}/lib/libc10.so>")
endif()
