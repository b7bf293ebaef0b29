/* The benchmarks' server: one thread, loopback, HTTP/1.1 with kept connections, and little work for
 * each request, so that what is measured is the client.
 *
 *     server ANSWER-FILE
 *
 * POST to any path that ends in /invocations gets the file; /delay/MS/... gets it so many
 * milliseconds later. A request that is not framed as it should be gets 400 and a line on stderr.
 * Prints its port; ends when stdin closes. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_SIZE = 16 * 1024, ANSWER_SIZE = 64 * 1024, EVENTS = 256, BACKLOG = 4096 };

struct client {
    int fd;
    size_t len;
    int64_t due;                    /* when a delayed answer is sent, milliseconds */
    struct client *previous, *next; /* of those that are delayed, by due */
    bool delayed;
    char request[REQUEST_SIZE + 1];
};

static char answer[ANSWER_SIZE];
static size_t answer_len;
static struct client *first, *last;
static int epoll;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Answers */

static void load_answer(const char *path) {
    enum { HEAD_SIZE = 256 };
    char body[ANSWER_SIZE - HEAD_SIZE];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        die(path);
    }
    size_t len = fread(body, 1, sizeof body, file);
    fclose(file);
    int head = snprintf(answer, HEAD_SIZE,
                        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\nConnection: keep-alive\r\n\r\n",
                        len);
    memcpy(answer + head, body, len);
    answer_len = (size_t)head + len;
}

static void delay(struct client *c, int64_t due) {
    struct client *before = last;
    while (before != NULL && before->due > due) {
        before = before->previous;
    }
    c->due = due;
    c->delayed = true;
    c->previous = before;
    c->next = before != NULL ? before->next : first;
    *(c->next != NULL ? &c->next->previous : &last) = c;
    *(before != NULL ? &before->next : &first) = c;
}

static void undelay(struct client *c) {
    if (c->delayed) {
        *(c->next != NULL ? &c->next->previous : &last) = c->previous;
        *(c->previous != NULL ? &c->previous->next : &first) = c->next;
        c->delayed = false;
    }
}

static void drop(struct client *c) {
    undelay(c);
    close(c->fd);
    free(c);
}

/* An answer fits into the socket's buffer: there is one at a time. */
static void reply(struct client *c) {
    undelay(c);
    c->len = 0;
    if (send(c->fd, answer, answer_len, MSG_NOSIGNAL) != (ssize_t)answer_len) {
        drop(c);
    }
}

/* Requests */

/* The value of a header, or NULL; `head` ends in "\r\n\r\n". */
static const char *find_header(const char *head, const char *name) {
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            line += len + 1;
            return line + strspn(line, " ");
        }
    }
    return NULL;
}

static bool ends_in(const char *text, size_t len, const char *end) {
    size_t end_len = strlen(end);
    return len >= end_len && memcmp(text + len - end_len, end, end_len) == 0;
}

/* What is wrong with a request's head, or NULL; sets the length of its body. */
static const char *check_head(const char *head, size_t *body_len) {
    if (strncmp(head, "POST /", 6) != 0) {
        return "not POST /...";
    }
    const char *path = head + strlen("POST ");
    size_t path_len = strcspn(path, " ");
    const char *type = find_header(head, "Content-Type");
    const char *length = find_header(head, "Content-Length");
    char *end;
    if (strncmp(path + path_len, " HTTP/1.1\r", 10) != 0) {
        return "not HTTP/1.1";
    }
    if (!ends_in(path, path_len, "/invocations")) {
        return "the path does not end in /invocations";
    }
    if (type == NULL || strncmp(type, "application/json\r", 17) != 0) {
        return "not application/json";
    }
    if (length == NULL || find_header(head, "Host") == NULL ||
        find_header(head, "Transfer-Encoding") != NULL) {
        return "no Content-Length, no Host, or a Transfer-Encoding";
    }
    *body_len = strtoul(length, &end, 10);
    return end == length || *end != '\r' ? "Content-Length is no number" : NULL;
}

static void refuse(struct client *c, const char *why) {
    static const char TEXT[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    fprintf(stderr, "server: refused a request: %s\n", why);
    send(c->fd, TEXT, sizeof TEXT - 1, MSG_NOSIGNAL);
    drop(c);
}

static void handle(struct client *c) {
    static const char DELAY[] = "POST /delay/";
    c->request[c->len] = '\0';
    char *body = strstr(c->request, "\r\n\r\n");
    if (body == NULL) {
        return;
    }
    char kept = body[4];
    body[4] = '\0';
    size_t wanted;
    const char *wrong = check_head(c->request, &wanted);
    body += 4;
    *body = kept;
    size_t len = c->len - (size_t)(body - c->request);
    if (wrong == NULL && len < wanted) {
        return;
    }
    if (wrong == NULL && (len > wanted || len < 2 || body[0] != '{' || body[len - 1] != '}')) {
        wrong = "the body is not what Content-Length says, or no object";
    }
    if (wrong != NULL) {
        refuse(c, wrong);
    } else if (strncmp(c->request, DELAY, sizeof DELAY - 1) == 0) {
        delay(c, now_ms() + strtol(c->request + sizeof DELAY - 1, NULL, 10));
    } else {
        reply(c);
    }
}

static void receive(struct client *c) {
    ssize_t n = recv(c->fd, c->request + c->len, REQUEST_SIZE - c->len, 0);
    if (n > 0 && c->delayed) {
        refuse(c, "bytes behind the body");
    } else if (n > 0) {
        c->len += (size_t)n;
        handle(c);
    } else if (n == 0 || errno != EAGAIN) {
        drop(c);
    }
}

/* The loop */

static void watch(int fd, void *data) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *c = calloc(1, sizeof *c);
        if (c == NULL) {
            die("calloc");
        }
        c->fd = fd;
        watch(fd, c);
    }
}

static int listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        die("listen");
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static int next_timeout(void) {
    if (first == NULL) {
        return -1;
    }
    int64_t left = first->due - now_ms();
    return left > 0 ? (int)left : 0;
}

static void raise_file_limit(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: server ANSWER-FILE\n");
        return 2;
    }
    load_answer(argv[1]);
    raise_file_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on_loopback();
    watch(listener, &listener);
    watch(STDIN_FILENO, &epoll);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, next_timeout());
        for (int i = 0; i < n; i++) {
            void *source = events[i].data.ptr;
            char byte;
            if (source == &listener) {
                accept_all(listener);
            } else if (source != &epoll) {
                receive(source);
            } else if (read(STDIN_FILENO, &byte, 1) <= 0) {
                return 0;
            }
        }
        while (first != NULL && first->due <= now_ms()) {
            reply(first);
        }
    }
}
