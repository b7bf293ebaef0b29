# Writes compiled Lua files as C byte arrays.
#   cmake -DOUT=embedded.c "-DFILES=a.luac;b.luac" -P embed.cmake
set(arrays "")
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  set(module "moonflow.${name}")
  if(name STREQUAL "init")
    set(module "moonflow")
  endif()
  string(APPEND arrays "static const unsigned char ${name}_lua[] = {${bytes}};\n")
  string(APPEND rows "    {\"${module}\", \"=moonflow/${name}.lua\", ${name}_lua, sizeof(${name}_lua)},\n")
endforeach()
file(WRITE ${OUT}
  "#include \"embedded.h\"\n\n${arrays}\n"
  "const struct embedded_file embedded_files[] = {\n${rows}    {NULL, NULL, NULL, 0},\n};\n")
