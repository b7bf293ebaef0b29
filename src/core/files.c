/* Files by file descriptor: what is checked is what is read. */
#include "core/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 65536 };

bool files_fail(const char *path, int code, struct error *err) {
    const char *name = code == ENOENT || code == ENOTDIR ? "NOT_FOUND"
                       : code == EACCES || code == EPERM ? "PERMISSION_DENIED"
                                                         : "IO_ERROR";
    return error_set(err, ERROR_CONFIG, name, "%s: %s", path, strerror(code));
}

static bool read_all(int fd, const char *path, struct buf *out, struct error *err) {
    char piece[PIECE];
    bool ok = true;
    while (ok) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            ok = files_fail(path, errno, err);
        } else if (n > 0 && !buf_append(out, piece, (size_t)n)) {
            ok = error_set(err, ERROR_CONFIG, NULL, "%s: larger than the %zu bytes that are read",
                           path, out->max);
        }
    }
    explicit_bzero(piece, sizeof piece);
    return ok;
}

bool files_read(const char *path, struct buf *out, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return files_fail(path, errno, err);
    }
    struct stat st;
    bool ok;
    if (fstat(fd, &st) != 0) {
        ok = files_fail(path, errno, err);
    } else if (!S_ISREG(st.st_mode)) {
        ok = error_set(err, ERROR_CONFIG, NULL, "%s: not a regular file", path);
    } else {
        /* In one piece where it fits, so that growing leaves no copies of a secret. */
        buf_reserve(out, (size_t)st.st_size);
        ok = read_all(fd, path, out, err);
    }
    close(fd);
    return ok;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Puts `count` names, each with its NUL, into the order of their bytes. */
static bool sort_names(struct buf *names, size_t count) {
    const char **order = malloc((count + 1) * sizeof *order);
    char *sorted = malloc(names->len + 1);
    bool ok = order != NULL && sorted != NULL;
    if (ok) {
        const char *name = names->data;
        for (size_t i = 0; i < count; i++) {
            order[i] = name;
            name += strlen(name) + 1;
        }
        qsort(order, count, sizeof *order, compare_names);
        char *at = sorted;
        for (size_t i = 0; i < count; i++) {
            at = stpcpy(at, order[i]) + 1;
        }
        memcpy(names->data, sorted, names->len);
    }
    free(order);
    free(sorted);
    return ok;
}

static bool collect(DIR *dir, const char *path, struct buf *names, size_t *count,
                    struct error *err) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            return errno == 0 || files_fail(path, errno, err);
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            continue;
        }
        if (!buf_append(names, name, strlen(name) + 1)) {
            return error_set(err, ERROR_CONFIG, NULL, "%s: too many files in it", path);
        }
        (*count)++;
    }
}

bool files_list(const char *path, struct buf *out, struct error *err) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return files_fail(path, errno, err);
    }
    struct buf names;
    size_t count = 0;
    buf_init(&names, out->max - out->len);
    bool ok = collect(dir, path, &names, &count, err);
    closedir(dir);
    if (ok && count > 0) {
        ok = (sort_names(&names, count) && buf_append(out, names.data, names.len)) ||
             files_fail(path, ENOMEM, err);
    }
    buf_free(&names);
    return ok;
}
