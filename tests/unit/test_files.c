#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "core/files.h"

static char folder[] = "/tmp/moonflow-files-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *bytes, size_t len) {
    FILE *f = fopen(in_folder(name), "wb");
    if (CHECK(f != NULL)) {
        CHECK(fwrite(bytes, 1, len, f) == len);
        fclose(f);
    }
}

static void test_read(void) {
    struct buf out;
    struct error err;
    buf_init(&out, 10);
    check_case = "reads a file with a NUL, up to the maximum";
    write_file("b",
               "0123\0"
               "56789",
               10);
    CHECK(files_read(in_folder("b"), &out, &err));
    CHECK(out.len == 10 && memcmp(out.data,
                                  "0123\0"
                                  "56789",
                                  10) == 0);

    check_case = "refuses a larger file";
    write_file("a", "0123456789A", 11);
    buf_clear(&out);
    CHECK(!files_read(in_folder("a"), &out, &err));
    CHECK_TEXT(err.code, "INVALID_PARAMETER_VALUE");
    CHECK(strstr(err.message, "larger than the 10 bytes") != NULL);

    check_case = "says that nothing is there";
    CHECK(!files_read(in_folder("none"), &out, &err) && err.kind == ERROR_CONFIG);
    CHECK_TEXT(err.code, "NOT_FOUND");
    CHECK(strstr(err.message, in_folder("none")) != NULL);
    CHECK(!files_read(in_folder("a/b"), &out, &err));
    CHECK_TEXT(err.code, "NOT_FOUND");

    check_case = "refuses a directory";
    CHECK(!files_read(folder, &out, &err));
    CHECK_TEXT(err.code, "INVALID_PARAMETER_VALUE");

    check_case = "refuses a FIFO without waiting for it";
    CHECK(mkfifo(in_folder("\xC3\xA9"), 0600) == 0);
    CHECK(!files_read(in_folder("\xC3\xA9"), &out, &err));
    CHECK(strstr(err.message, "not a regular file") != NULL);

    check_case = "reads a file that does not know its size";
    struct buf large;
    buf_init(&large, 100000);
    CHECK(files_read("/proc/self/status", &large, &err) && large.len > 100);
    buf_free(&large);

    check_case = "reads an empty file";
    buf_clear(&out);
    write_file("Z", "", 0);
    CHECK(files_read(in_folder("Z"), &out, &err) && out.len == 0);
    buf_free(&out);
}

static void test_list(void) {
    struct buf names;
    struct error err;
    buf_init(&names, 100);
    check_case = "lists in the order of bytes";
    CHECK(files_list(folder, &names, &err));
    CHECK(names.len == 9 && memcmp(names.data, "Z\0a\0b\0\xC3\xA9", 9) == 0);
    buf_free(&names);

    check_case = "refuses a listing that is too large";
    buf_init(&names, 8);
    CHECK(!files_list(folder, &names, &err));
    CHECK(names.len == 0);
    CHECK(!files_list(in_folder("none"), &names, &err));
    CHECK_TEXT(err.code, "NOT_FOUND");

    check_case = "lists an empty directory";
    CHECK(mkdir(in_folder("e"), 0700) == 0);
    CHECK(files_list(in_folder("e"), &names, &err) && names.len == 0);
    CHECK(rmdir(in_folder("e")) == 0);
    buf_free(&names);
}

static void test_private(void) {
    struct buf out;
    struct error err;
    struct stat st;
    buf_init(&out, 100);
    check_case = "writes a file for this user alone, and replaces it";
    umask(0);
    CHECK(files_write_private(in_folder("p"), "old", 3, &err));
    CHECK(files_write_private(in_folder("p"), "a\0b", 3, &err));
    CHECK(stat(in_folder("p"), &st) == 0 && (st.st_mode & 07777) == 0600);
    CHECK(files_read_private(in_folder("p"), &out, &err));
    CHECK(out.len == 3 && memcmp(out.data, "a\0b", 3) == 0);

    check_case = "refuses to read what others may read";
    CHECK(chmod(in_folder("p"), 0640) == 0);
    CHECK(!files_read_private(in_folder("p"), &out, &err));
    CHECK_TEXT(err.code, "PERMISSION_DENIED");
    CHECK(unlink(in_folder("p")) == 0);

    check_case = "refuses a symbolic link";
    CHECK(symlink("/dev/null", in_folder("p")) == 0);
    CHECK(!files_read_private(in_folder("p"), &out, &err));
    CHECK_TEXT(err.code, "PERMISSION_DENIED");
    CHECK(files_lock(in_folder("p"), &err) == -1);
    CHECK(unlink(in_folder("p")) == 0);

    check_case = "leaves nothing where it can not write";
    CHECK(mkdir(in_folder("p"), 0700) == 0);
    CHECK(!files_write_private(in_folder("p"), "a", 1, &err));
    CHECK(rmdir(in_folder("p")) == 0);
    CHECK(!files_write_private(in_folder("none/p"), "a", 1, &err));
    CHECK_TEXT(err.code, "NOT_FOUND");

    check_case = "locks once";
    int fd = files_lock(in_folder("p"), &err);
    CHECK(fd >= 0);
    CHECK(files_lock(in_folder("p"), &err) == -1);
    CHECK_TEXT(err.code, "RESOURCE_CONFLICT");
    close(fd);
    fd = files_lock(in_folder("p"), &err);
    CHECK(fd >= 0);
    close(fd);
    CHECK(unlink(in_folder("p")) == 0);
    buf_clear(&out);
    CHECK(files_list(folder, &out, &err) && out.len == 9);
    buf_free(&out);
}

int main(void) {
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    test_read();
    test_list();
    test_private();
    static const char *const made[] = {"Z", "a", "b", "\xC3\xA9"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        unlink(in_folder(made[i]));
    }
    rmdir(folder);
    return check_done();
}
