# find_package(nunatak) for CMake 3.16 and newer: the targets
#   nunatak::static   libnunatak.a, with what it needs from the system
#   nunatak::shared   libnunatak.so, where there is one
#   nunatak::nunatak  shared where BUILD_SHARED_LIBS asks for it and it is there, else static
# Everything is found beside this file, wherever the folder was put.
get_filename_component(_nunatak_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_nunatak_libraries lib lib64)
if(CMAKE_LIBRARY_ARCHITECTURE)
  list(APPEND _nunatak_libraries "lib/${CMAKE_LIBRARY_ARCHITECTURE}")
endif()

# _nunatak_find(VARIABLE NAME): the first file of this name in the folders for libraries.
function(_nunatak_find variable name)
  foreach(folder IN LISTS _nunatak_libraries)
    if(EXISTS "${_nunatak_prefix}/${folder}/${name}")
      set(${variable} "${_nunatak_prefix}/${folder}/${name}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${variable} "" PARENT_SCOPE)
endfunction()

_nunatak_find(_nunatak_static libnunatak.a)
_nunatak_find(_nunatak_shared libnunatak.so)

if(NOT EXISTS "${_nunatak_prefix}/include/nunatak.h" OR (NOT _nunatak_static AND NOT _nunatak_shared))
  set(nunatak_FOUND FALSE)
  set(nunatak_NOT_FOUND_MESSAGE "no include/nunatak.h, or no libnunatak.a and no libnunatak.so, in ${_nunatak_prefix}")
  return()
endif()

if(_nunatak_static AND NOT TARGET nunatak::static)
  add_library(nunatak::static STATIC IMPORTED)
  set_target_properties(nunatak::static PROPERTIES
    IMPORTED_LOCATION "${_nunatak_static}"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_INCLUDE_DIRECTORIES "${_nunatak_prefix}/include")
  # What `rustc --print native-static-libs` names. A board's library needs nothing but the compiler's own.
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    set_property(TARGET nunatak::static PROPERTY INTERFACE_LINK_LIBRARIES gcc_s util rt pthread m dl c)
  endif()
endif()

if(_nunatak_shared AND NOT TARGET nunatak::shared)
  add_library(nunatak::shared SHARED IMPORTED)
  set_target_properties(nunatak::shared PROPERTIES
    IMPORTED_LOCATION "${_nunatak_shared}"
    INTERFACE_INCLUDE_DIRECTORIES "${_nunatak_prefix}/include")
  file(GLOB _nunatak_versions "${_nunatak_shared}.*")
  list(SORT _nunatak_versions)
  foreach(_nunatak_version IN LISTS _nunatak_versions)
    get_filename_component(_nunatak_soname "${_nunatak_version}" NAME)
    set_property(TARGET nunatak::shared PROPERTY IMPORTED_SONAME "${_nunatak_soname}")
    break() # the shortest name is the one that programs ask for
  endforeach()
endif()

if(NOT TARGET nunatak::nunatak)
  add_library(nunatak::nunatak INTERFACE IMPORTED)
  if(TARGET nunatak::shared AND (BUILD_SHARED_LIBS OR NOT TARGET nunatak::static))
    set_property(TARGET nunatak::nunatak PROPERTY INTERFACE_LINK_LIBRARIES nunatak::shared)
  else()
    set_property(TARGET nunatak::nunatak PROPERTY INTERFACE_LINK_LIBRARIES nunatak::static)
  endif()
endif()

unset(_nunatak_prefix)
unset(_nunatak_libraries)
unset(_nunatak_static)
unset(_nunatak_shared)
unset(_nunatak_versions)
