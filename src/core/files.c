/* Files by file descriptor: what is checked is what is read. */
#include "core/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PIECE = 65536,
    SHARED_MODES = 0077 /* permissions of group and others */
};

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

/* Why a file is not this user's alone, or NULL. */
static const char *shared_by(const struct stat *st) {
    return st->st_uid != geteuid()             ? "it is another user's"
           : (st->st_mode & SHARED_MODES) != 0 ? "others may read or write it"
           : st->st_nlink != 1                 ? "it has a second name"
                                               : NULL;
}

static bool read_file(const char *path, bool private, struct buf *out, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (private ? O_NOFOLLOW : 0));
    if (fd < 0) {
        return files_fail(path, private && errno == ELOOP ? EACCES : errno, err);
    }
    struct stat st;
    bool ok;
    if (fstat(fd, &st) != 0) {
        ok = files_fail(path, errno, err);
    } else if (!S_ISREG(st.st_mode)) {
        ok = error_set(err, ERROR_CONFIG, NULL, "%s: not a regular file", path);
    } else if (private && shared_by(&st) != NULL) {
        ok = error_set(err, ERROR_CONFIG, "PERMISSION_DENIED", "%s: %s", path, shared_by(&st));
    } else {
        /* In one piece where it fits, so that growing leaves no copies of a secret. */
        buf_reserve(out, (size_t)st.st_size);
        ok = read_all(fd, path, out, err);
    }
    close(fd);
    return ok;
}

bool files_read(const char *path, struct buf *out, struct error *err) {
    return read_file(path, false, out, err);
}

bool files_read_private(const char *path, struct buf *out, struct error *err) {
    return read_file(path, true, out, err);
}

/* Returns 0 or an errno. */
static int write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

bool files_write_private(const char *path, const char *bytes, size_t len, struct error *err) {
    char part[PATH_MAX];
    int n = snprintf(part, sizeof part, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof part) {
        return files_fail(path, ENAMETOOLONG, err);
    }
    int fd = mkostemp(part, O_CLOEXEC); /* with mode 0600 */
    if (fd < 0) {
        return files_fail(path, errno, err);
    }
    int code = write_all(fd, bytes, len);
    if (close(fd) != 0 && code == 0) {
        code = errno;
    }
    if (code == 0 && rename(part, path) != 0) {
        code = errno;
    }
    if (code != 0) {
        unlink(part);
        return files_fail(path, code, err);
    }
    return true;
}

int files_lock(const char *path, struct error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0) {
        files_fail(path, errno, err);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int code = errno;
        close(fd);
        fd = -1;
        if (code == EWOULDBLOCK) {
            error_set(err, ERROR_CONFIG, "RESOURCE_CONFLICT", "%s: somebody else holds it", path);
        } else {
            files_fail(path, code, err);
        }
    }
    return fd;
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
