# Writes compiled Lua files as C byte arrays.
#   cmake -DOUT=embedded.c "-DFILES=a.luac;gateway.b.luac" -P embed.cmake
set(arrays "")
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  string(REGEX REPLACE "\\.luac$" "" name "${name}")
  string(REPLACE "." "/" path "${name}")
  string(REPLACE "." "_" array "${name}_lua")
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "\\.init$" "" module "moonflow.${name}")
  if(file MATCHES "/others/[^/]*$") # a module that is not moonflow's
    set(module ${name})
  endif()
  string(APPEND arrays "static const unsigned char ${array}[] = {${bytes}};\n")
  string(APPEND rows "    {\"${module}\", \"=moonflow/${path}.lua\", ${array}, sizeof(${array})},\n")
endforeach()
file(WRITE ${OUT}
  "#include \"embedded.h\"\n\n${arrays}\n"
  "const struct embedded_file embedded_files[] = {\n${rows}    {NULL, NULL, NULL, 0},\n};\n")
