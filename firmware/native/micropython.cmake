# The table walkers as the built-in module ew_table, for ports built with CMake (ESP32):
#     idf.py -D USER_C_MODULES=.../firmware/native/micropython.cmake ...
# With -D EDGEWISE_MODEL=FOLDER also a compiled model, as micropython.mk says. Tests compile both for the host through
# MicroPython's own usermod.cmake, and hold sources and flags against micropython.mk. Not tried with ESP-IDF.

add_library(usermod_edgewise INTERFACE)
target_sources(usermod_edgewise INTERFACE ${CMAKE_CURRENT_LIST_DIR}/table_module.c)
target_include_directories(usermod_edgewise INTERFACE ${CMAKE_CURRENT_LIST_DIR})
target_compile_options(usermod_edgewise INTERFACE -ffp-contract=off -Wno-unused-function)
if(EDGEWISE_MODEL)
    target_sources(usermod_edgewise INTERFACE ${CMAKE_CURRENT_LIST_DIR}/module.c)
    target_include_directories(usermod_edgewise INTERFACE ${EDGEWISE_MODEL} ${EMLEARN_DIR})
    target_compile_options(usermod_edgewise INTERFACE -fno-thread-jumps -Wno-unused-variable)
endif()
target_link_libraries(usermod INTERFACE usermod_edgewise)
