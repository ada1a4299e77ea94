# Compiler settings shared by every target, as one interface library.

add_library(quire_options INTERFACE)
target_include_directories(quire_options INTERFACE ${PROJECT_SOURCE_DIR})
# No -ffast-math: NaN and -inf are part of the contracts. These two are the safe subset.
target_compile_options(quire_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wnon-virtual-dtor -fno-math-errno -fno-trapping-math>)
# GCC 12 warns of std::string's own operator+ (its bug 105651, fixed in 13).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(quire_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(QUIRE_WERROR)
  target_compile_options(quire_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(QUIRE_SANITIZE)
  target_compile_options(quire_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${QUIRE_SANITIZE} -fno-omit-frame-pointer -g>)
  target_link_options(quire_options INTERFACE -fsanitize=${QUIRE_SANITIZE})
  if(QUIRE_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Boost.Asio's fences: it orders nothing by them that locks do not order, too.
    target_compile_options(quire_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>)
  endif()
  if(QUIRE_SANITIZE MATCHES "undefined")
    target_compile_options(quire_options INTERFACE
      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=undefined>)
  endif()
endif()
# Every library that a fuzz target links has to count edges: libFuzzer is blind to what does not.
if(QUIRE_FUZZ)
  target_compile_options(quire_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
