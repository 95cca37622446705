# Finds the CUDA runtime and NCCL, and makes the targets lab_cuda and lab_nccl of them: headers and libraries. Looks
# beside torch first, where its wheels put theirs, then where a CUDA toolkit is. torch itself has to be there already.
get_filename_component(_wheels ${LabTorch_ROOT}/../nvidia ABSOLUTE)
set(_toolkit $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
find_path(LabCuda_INCLUDE cuda_runtime.h HINTS ${_wheels}/cu13/include PATHS ${_toolkit} PATH_SUFFIXES include)
find_library(LabCuda_RUNTIME NAMES libcudart.so.13 cudart HINTS ${_wheels}/cu13/lib PATHS ${_toolkit} PATH_SUFFIXES lib64 lib)
find_path(LabCuda_NCCL_INCLUDE nccl.h HINTS ${_wheels}/nccl/include PATHS ${_toolkit} PATH_SUFFIXES include)
find_library(LabCuda_NCCL NAMES libnccl.so.2 nccl HINTS ${_wheels}/nccl/lib PATHS ${_toolkit} PATH_SUFFIXES lib64 lib)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LabCuda
  REQUIRED_VARS LabCuda_INCLUDE LabCuda_RUNTIME LabCuda_NCCL_INCLUDE LabCuda_NCCL
  REASON_FAILURE_MESSAGE "no CUDA runtime and NCCL beside torch in ${_wheels}, nor a CUDA toolkit: run scripts/setup --tests, or set CUDA_HOME")
if(LabCuda_FOUND AND NOT TARGET lab_cuda)
  add_library(lab_cuda INTERFACE IMPORTED)
  target_include_directories(lab_cuda SYSTEM INTERFACE ${LabCuda_INCLUDE})
  target_link_libraries(lab_cuda INTERFACE ${LabCuda_RUNTIME})
  add_library(lab_nccl INTERFACE IMPORTED)
  target_include_directories(lab_nccl SYSTEM INTERFACE ${LabCuda_NCCL_INCLUDE} ${LabCuda_INCLUDE})
  target_link_libraries(lab_nccl INTERFACE ${LabCuda_NCCL})
  # torch's kernels for GPUs register themselves: no symbol of theirs is asked for.
  add_library(lab_torch_cuda INTERFACE IMPORTED)
  target_link_libraries(lab_torch_cuda INTERFACE lab_torch
    -Wl,--push-state,--no-as-needed ${LabTorch_ROOT}/lib/libtorch_cuda.so -Wl,--pop-state ${LabTorch_ROOT}/lib/libc10_cuda.so)
endif()
