# Decides whether CUDA targets are built. QUIRE_HAVE_CUDA is the answer for the rest of the tree.

set(QUIRE_HAVE_CUDA OFF)
if(NOT QUIRE_CUDA STREQUAL "OFF")
  find_program(QUIRE_NVCC nvcc HINTS /usr/local/cuda/bin)
  if(QUIRE_NVCC)
    set(CMAKE_CUDA_COMPILER ${QUIRE_NVCC})
    # Machine code for A100 and H100; PTX of the former for everything between and after.
    set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc takes C++20.
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    get_filename_component(QUIRE_CUDA_ROOT ${QUIRE_NVCC} DIRECTORY)
    get_filename_component(QUIRE_CUDA_ROOT ${QUIRE_CUDA_ROOT} DIRECTORY)
    find_library(QUIRE_CUDART_STATIC cudart_static REQUIRED
      HINTS ${QUIRE_CUDA_ROOT}/lib64 ${QUIRE_CUDA_ROOT}/lib)
    set(QUIRE_HAVE_CUDA ON)
  elseif(QUIRE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "QUIRE_CUDA=ON, but nvcc was not found")
  endif()
endif()
if(QUIRE_HAVE_CUDA)
  message(STATUS "CUDA targets: built with ${CMAKE_CUDA_COMPILER}")
else()
  message(STATUS "CUDA targets: none; this is a CPU-only build")
endif()
