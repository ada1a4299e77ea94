# format, format-check, check-headers, check-layering: what a change must pass beside the tests.

find_program(QUIRE_CLANG_FORMAT NAMES clang-format-14 clang-format)
set(QUIRE_CHECK_SOURCES ${PROJECT_SOURCE_DIR}/scripts/check_sources.py)

foreach(check format format-check)
  add_custom_target(${check}
    COMMAND python3 ${QUIRE_CHECK_SOURCES} ${check} --clang-format ${QUIRE_CLANG_FORMAT}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} USES_TERMINAL)
endforeach()
add_custom_target(check-layering
  COMMAND python3 ${QUIRE_CHECK_SOURCES} check-layering
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} USES_TERMINAL)
if(QUIRE_HAVE_CUDA)
  add_custom_target(check-cuda-resources
    COMMAND python3 ${PROJECT_SOURCE_DIR}/tests/gpu/check_resources.py --build-dir ${PROJECT_BINARY_DIR}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} USES_TERMINAL)
  add_dependencies(check-cuda-resources quire_kernels_cuda)
endif()
add_custom_target(check-headers
  COMMAND python3 ${QUIRE_CHECK_SOURCES} check-headers --build-dir ${PROJECT_BINARY_DIR}
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} USES_TERMINAL)
