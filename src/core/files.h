/* Reading and writing small files and listing directories, guarded against what is not a file,
 * against sizes without end and against other users. What is in them is not known here. */
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

/* As files_read, for a file that nobody but this user may read or write: where it is another's, may
 * be touched by others, has a second name or is a symbolic link, it is refused as
 * PERMISSION_DENIED. */
bool files_read_private(const char *path, struct buf *out, struct error *err);

/* Puts a file with these bytes at `path`, which this user alone may read from the first moment on.
 * What was there is replaced at once: who reads finds the old file or the new one, whole. */
bool files_write_private(const char *path, const char *bytes, size_t len, struct error *err);

/* Takes the lock that is the file `path`, made where it is not there, and returns the descriptor
 * that holds it until it is closed. -1 with code RESOURCE_CONFLICT where somebody else holds it;
 * does not wait. */
int files_lock(const char *path, struct error *err);

/* Appends the names in a directory, in the order of their bytes, each followed by a NUL; without
 * "." and "..". Failure as in files_read. */
bool files_list(const char *path, struct buf *out, struct error *err);

/* Sets the error of a system call that failed on this path with this errno. Returns false. */
bool files_fail(const char *path, int code, struct error *err);

#endif
