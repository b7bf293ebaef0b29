/* Lua files that are compiled in; the table is made by cmake/embed.cmake. */
#ifndef MOONFLOW_EMBEDDED_H
#define MOONFLOW_EMBEDDED_H

#include <stddef.h>

struct embedded_file {
    const char *name;       /* of the module, "moonflow.client"; NULL ends the table */
    const char *chunk_name; /* what errors call it */
    const unsigned char *data;
    size_t size;
};

extern const struct embedded_file embedded_files[];

#endif
