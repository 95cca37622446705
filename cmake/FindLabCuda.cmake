# Finds the CUDA runtime and NCCL, and makes the targets lab_cuda and lab_nccl of them: headers and libraries. They lie
# beside torch, where its wheels put theirs, which libtorch_cuda loads too. CUDA's headers include some that only two
# more wheels have (scripts/setup installs them); without these a toolkit's headers of the same version are taken.
# torch itself has to be there already. Nothing is cached, as another torch may be found the next time.
get_filename_component(_wheels ${LabTorch_ROOT}/../nvidia ABSOLUTE)
list(TRANSFORM LabCuda_TOOLKITS APPEND /include OUTPUT_VARIABLE _toolkits)
find_path(LabCuda_INCLUDE crt/host_config.h PATHS ${_wheels}/cu13/include ${_toolkits} NO_DEFAULT_PATH NO_CACHE)
find_library(LabCuda_RUNTIME libcudart.so.13 PATHS ${_wheels}/cu13/lib NO_DEFAULT_PATH NO_CACHE)
find_path(LabCuda_NCCL_INCLUDE nccl.h PATHS ${_wheels}/nccl/include NO_DEFAULT_PATH NO_CACHE)
find_library(LabCuda_NCCL libnccl.so.2 PATHS ${_wheels}/nccl/lib NO_DEFAULT_PATH NO_CACHE)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LabCuda
  REQUIRED_VARS LabCuda_INCLUDE LabCuda_RUNTIME LabCuda_NCCL_INCLUDE LabCuda_NCCL
  REASON_FAILURE_MESSAGE "CUDA's runtime, headers and NCCL are not all in ${_wheels}: run scripts/setup --cuda, and unset LAB_TORCH")
if(LabCuda_FOUND AND NOT TARGET lab_cuda)
  add_library(lab_cuda INTERFACE IMPORTED)
  target_include_directories(lab_cuda SYSTEM INTERFACE ${LabCuda_INCLUDE})
  if(NOT EXISTS ${LabCuda_INCLUDE}/nv/target) # a toolkit has it here, and its compiler knows
    target_include_directories(lab_cuda SYSTEM INTERFACE ${LabCuda_INCLUDE}/cccl)
  endif()
  target_link_libraries(lab_cuda INTERFACE ${LabCuda_RUNTIME})
  add_library(lab_nccl INTERFACE IMPORTED)
  target_include_directories(lab_nccl SYSTEM INTERFACE ${LabCuda_NCCL_INCLUDE})
  target_link_libraries(lab_nccl INTERFACE ${LabCuda_NCCL} lab_cuda) # its header includes CUDA's
  # torch's kernels for GPUs register themselves: no symbol of theirs is asked for.
  add_library(lab_torch_cuda INTERFACE IMPORTED)
  target_link_libraries(lab_torch_cuda INTERFACE lab_torch
    -Wl,--push-state,--no-as-needed ${LabTorch_ROOT}/lib/libtorch_cuda.so -Wl,--pop-state ${LabTorch_ROOT}/lib/libc10_cuda.so)
endif()
