/* Reads a stream's chunks from standard input, as a program behind `curl -N` does, and tells how
 * late they are: microseconds from the server's stamp to the end of the read that brought the
 * chunk, the median and what 9 of 10 do not exceed.
 *
 *     curl -N ... | reader N */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 * 1024, CHUNKS_MAX = 100000 };

static int64_t late[CHUNKS_MAX];
static long count;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Takes the whole events in the text, and returns how many bytes that were. */
static size_t take(char *text, int64_t now) {
    static const char STAMP[] = "\"obfuscation\":\"";
    char *at = text;
    for (char *end; (end = strstr(at, "\n\n")) != NULL; at = end + 2) {
        *end = '\0';
        const char *stamp = strstr(at, STAMP);
        if (stamp != NULL && count < CHUNKS_MAX) {
            late[count++] = now - strtoll(stamp + sizeof STAMP - 1, NULL, 10);
        }
    }
    return (size_t)(at - text);
}

int main(int argc, char **argv) {
    static char text[MOST + 1];
    size_t len = 0;
    ssize_t n;
    while ((n = read(STDIN_FILENO, text + len, MOST - len)) > 0) {
        int64_t now = now_ns();
        len += (size_t)n;
        text[len] = '\0';
        size_t taken = take(text, now);
        len -= taken;
        memmove(text, text + taken, len);
    }
    /* The role and the reason why it ends are chunks too. */
    if (argc != 2 || count != strtol(argv[1], NULL, 10) + 2) {
        fprintf(stderr, "reader: not the stream that was expected: %ld chunks\n", count);
        return 1;
    }
    qsort(late, (size_t)count, sizeof *late, compare);
    printf("%.1f %.1f\n", (double)late[count / 2] / 1e3, (double)late[count * 9 / 10] / 1e3);
    return 0;
}
