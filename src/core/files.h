/* Reading small files and listing directories, guarded against what is not a file and against
 * sizes without end. What is in them is not known here. */
#ifndef MOONFLOW_CORE_FILES_H
#define MOONFLOW_CORE_FILES_H

#include <stdbool.h>

#include "core/buf.h"
#include "core/error.h"

/* Appends the whole content of a regular file to `out`, as long as it fits. Never blocks on a FIFO
 * or a device: what is no regular file is refused, a symbolic link is followed. Failure has kind
 * config and names the path; its code is NOT_FOUND where nothing is there, PERMISSION_DENIED,
 * INVALID_PARAMETER_VALUE for no regular file or too much in it, else IO_ERROR. */
bool files_read(const char *path, struct buf *out, struct error *err);

/* Appends the names in a directory, in the order of their bytes, each followed by a NUL; without
 * "." and "..". Failure as in files_read. */
bool files_list(const char *path, struct buf *out, struct error *err);

/* Sets the error of a system call that failed on this path with this errno. Returns false. */
bool files_fail(const char *path, int code, struct error *err);

#endif
