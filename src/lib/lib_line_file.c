/* The file of the history: 0600 from its creation, locked while it is written, so that several
 * processes do not lose each other's lines. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files.h"
#include "lib/lib.h"
#include "lib/lib_line.h"

enum {
    OPEN_TRIES = 10,      /* that the file was replaced between its opening and its lock */
    FILE_MAX = 67108864,  /* bytes of a file that is looked at */
    LOCK_TRIES = 20,      /* for a lock that another process holds */
    LOCK_PAUSE_US = 10000 /* between them */
};

static bool lock(int fd) {
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return false;
        }
        usleep(LOCK_PAUSE_US);
    }
    return false;
}

/* Opens and locks the file that has this name now. -1 and errno where it can not. */
static int open_locked(const char *path, int flags) {
    for (int i = 0; i < OPEN_TRIES; i++) {
        struct stat mine, named;
        int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0600);
        if (fd < 0) {
            return -1;
        }
        if (fstat(fd, &mine) != 0 || !S_ISREG(mine.st_mode)) {
            errno = EINVAL;
        } else if (lock(fd)) {
            if (stat(path, &named) == 0 && mine.st_ino == named.st_ino) {
                return fd;
            }
            close(fd);
            continue;
        }
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    errno = EAGAIN;
    return -1;
}

static bool write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static int fail(lua_State *L, const char *path, int number) {
    struct error err;
    files_fail(path, number, &err);
    return lib_fail(L, &err);
}

static const char *check_path(lua_State *L, int arg) {
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);
    luaL_argcheck(L, len > 0 && strlen(path) == len, arg, "a path expected");
    return path;
}

/* Makes the directories above the file, for their owner only. */
static void make_parents(char *path) {
    for (char *p = path + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0700);
            *p = '/';
        }
    }
}

/*** Adds a line to a file, which is made with its directories where it is not there.
 * @return true, or nil and an error object */
int line_append(lua_State *L) {
    size_t len;
    const char *path = check_path(L, 1);
    const char *line = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, memchr(line, '\n', len) == NULL, 2, "one line expected");
    lua_settop(L, 2);
    lua_pushfstring(L, "%s\n", line); /* one write: a line is there whole or not at all */
    size_t whole = lua_rawlen(L, 3);
    luaL_argcheck(L, whole == len + 1, 2, "holds a NUL byte");
    struct buf *parents = lib_new_buf(L, 4096);
    if (!buf_append(parents, path, strlen(path) + 1)) {
        return fail(L, path, ENAMETOOLONG);
    }
    make_parents(parents->data);
    int fd = open_locked(path, O_WRONLY | O_APPEND | O_CREAT);
    if (fd < 0) {
        return fail(L, path, errno);
    }
    bool ok = write_all(fd, lua_tostring(L, 3), whole);
    int number = errno;
    close(fd);
    if (!ok) {
        return fail(L, path, number);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* Replaces the file by its last bytes, while `fd`, which has it, is locked. */
static bool replace(const char *path, const char *temporary, int fd, off_t size, struct buf *kept) {
    if (!buf_reserve(kept, kept->max)) {
        errno = ENOMEM;
        return false;
    }
    ssize_t n = pread(fd, kept->data, kept->max, size - (off_t)kept->max);
    const char *first = n > 0 ? memchr(kept->data, '\n', (size_t)n) : NULL;
    if (first == NULL) {
        errno = n < 0 ? errno : EINVAL;
        return false;
    }
    first++;
    (void)unlink(temporary); /* of a process that was killed: the lock is ours */
    int out = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (out < 0) {
        return false;
    }
    bool ok = write_all(out, first, (size_t)(kept->data + n - first));
    ok = close(out) == 0 && ok && rename(temporary, path) == 0;
    if (!ok) {
        int saved = errno;
        (void)unlink(temporary);
        errno = saved;
    }
    return ok;
}

/*** Keeps at most the last `max` bytes of a file, whole lines, where it is longer than twice that.
 * @return true, or nil and an error object */
int line_trim(lua_State *L) {
    const char *path = check_path(L, 1);
    lua_Integer max = luaL_checkinteger(L, 2);
    luaL_argcheck(L, max >= 1 && max <= FILE_MAX, 2, "a number of bytes expected");
    lua_settop(L, 1);
    const char *temporary = lua_pushfstring(L, "%s.new", path);
    struct buf *kept = lib_new_buf(L, (size_t)max);
    int fd = open_locked(path, O_RDONLY);
    if (fd < 0) {
        return fail(L, path, errno);
    }
    struct stat st;
    bool ok = fstat(fd, &st) == 0 &&
              (st.st_size <= 2 * max || replace(path, temporary, fd, st.st_size, kept));
    int number = errno;
    close(fd);
    if (!ok) {
        return fail(L, path, number);
    }
    lua_pushboolean(L, 1);
    return 1;
}
