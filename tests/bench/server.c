/* The benchmarks' server: one thread, loopback, HTTP/1.1 with kept connections, and little work for
 * each request, so that what is measured is the client.
 *
 *     server ANSWER-FILE
 *
 * POST to a path that ends in
 *   /invocations       gets the file; with /delay/MS before, so many milliseconds later
 *   /chat/completions  gets a stream; with /sse/N/GAP before, one of N words, so many microseconds
 *                      apart, and where those are 0 as fast as they are taken
 *   /embeddings        gets vectors in the form that the request names
 * A request that is not framed as it should be gets 400 and a line on stderr. Prints its port; ends
 * when stdin closes. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "answers.h"

enum {
    REQUEST_SIZE = 16 * 1024,
    PIECE_SIZE = 16 * 1024, /* of a stream that is written at once, as fast as it is taken */
    EVENTS = 256,
    BACKLOG = 4096
};

struct client {
    int fd;
    size_t len;                     /* of the request so far */
    int64_t due;                    /* when it is gone on with, nanoseconds */
    struct client *previous, *next; /* of those that wait for a time, by due */
    bool waiting;
    bool blocked; /* the socket takes no more for now */
    /* What is being sent, and what comes then. */
    struct answer out;
    long chunk, words; /* of a stream: the next one, and how long it is; 0 words: no stream */
    int64_t gap;
    char request[REQUEST_SIZE + 1];
    char piece[PIECE_SIZE];
};

static struct client *first, *last;
static int epoll, timer;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Clients that wait for a time */

static void set_timer(void) {
    static int64_t set_to;
    int64_t due = first != NULL ? first->due : 0;
    if (due != set_to) {
        struct itimerspec at = {.it_value = {due / 1000000000, due % 1000000000}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        set_to = due;
    }
}

static void delay(struct client *c, int64_t due) {
    struct client *before = last;
    while (before != NULL && before->due > due) {
        before = before->previous;
    }
    c->due = due;
    c->waiting = true;
    c->previous = before;
    c->next = before != NULL ? before->next : first;
    *(c->next != NULL ? &c->next->previous : &last) = c;
    *(before != NULL ? &before->next : &first) = c;
}

static void undelay(struct client *c) {
    if (c->waiting) {
        *(c->next != NULL ? &c->next->previous : &last) = c->previous;
        *(c->previous != NULL ? &c->previous->next : &first) = c->next;
        c->waiting = false;
    }
}

static void drop(struct client *c) {
    undelay(c);
    close(c->fd);
    free(c);
}

/* Sending */

static void watch(struct client *c, int operation) {
    struct epoll_event event = {.events = c->blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event) != 0) {
        die("epoll_ctl");
    }
}

/* Puts the next part of a stream into c->out: one chunk where there is a gap, else many. */
static void fill(struct client *c) {
    long end = chunks_count(c->words);
    size_t len = 0;
    int64_t now = now_ns();
    do {
        len += chunks_write(c->piece + len, c->chunk++, c->words, now);
    } while (c->gap == 0 && c->chunk < end && PIECE_SIZE - len >= CHUNK_MAX);
    c->out = (struct answer){c->piece, len};
    if (c->chunk == end) {
        c->words = 0;
    } else if (c->gap > 0) {
        delay(c, c->due + c->gap);
    }
}

/* Sends what the socket takes. False where the client is gone. */
static bool flush(struct client *c) {
    bool blocked = false;
    while (c->out.len > 0 && !blocked) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        blocked = n < 0 && errno == EAGAIN;
        if (n < 0 && !blocked) {
            drop(c);
            return false;
        }
        c->out.data += n > 0 ? n : 0;
        c->out.len -= n > 0 ? (size_t)n : 0;
    }
    if (blocked != c->blocked) {
        c->blocked = blocked;
        watch(c, EPOLL_CTL_MOD);
    }
    return true;
}

/* Goes on with a client's answer until its socket is full, or there is something to wait for. */
static void go_on(struct client *c) {
    while (flush(c)) {
        if (c->blocked || c->waiting || c->words == 0) {
            break;
        }
        fill(c);
    }
}

static void reply(struct client *c, struct answer answer) {
    c->len = 0;
    c->out = answer;
    go_on(c);
}

static void start_stream(struct client *c, long words, int64_t gap) {
    c->words = words;
    c->chunk = 0;
    c->gap = gap;
    c->due = now_ns();
    reply(c, answer_stream_head());
}

/* What was waited for has come: a stream's next chunk, or the time of a whole answer. A chunk that
 * could not be sent yet goes first. */
static void on_time(struct client *c) {
    undelay(c);
    if (c->words == 0) {
        reply(c, answer_chat());
    } else if (c->blocked) {
        delay(c, now_ns() + c->gap);
    } else {
        fill(c);
        go_on(c);
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

static bool ends_in(const char *text, size_t len, const char *end) {
    size_t end_len = strlen(end);
    return len >= end_len && memcmp(text + len - end_len, end, end_len) == 0;
}

/* Answers a request whose framing is right. The body ends in a NUL. */
static void answer(struct client *c, const char *body) {
    static const char DELAY[] = "/delay/";
    const char *path = c->request + strlen("POST ");
    size_t len = strcspn(path, " ");
    long words = 0;
    long gap = 0;
    if (ends_in(path, len, "/invocations")) {
        if (strncmp(path, DELAY, sizeof DELAY - 1) == 0) {
            delay(c, now_ns() + strtol(path + sizeof DELAY - 1, NULL, 10) * 1000000);
        } else {
            reply(c, answer_chat());
        }
    } else if (ends_in(path, len, "/chat/completions") && strstr(body, "\"stream\":true") != NULL &&
               sscanf(path, "/sse/%ld/%ld/", &words, &gap) == 2 && words > 0 && gap >= 0) {
        start_stream(c, words, gap * 1000);
    } else if (ends_in(path, len, "/embeddings") &&
               strstr(body, "\"encoding_format\":\"") != NULL) {
        reply(c, answer_embeddings(strstr(body, "\"encoding_format\":\"base64\"") != NULL));
    } else {
        refuse(c, "no such path, or the body asks for nothing that is there");
    }
}

static void handle(struct client *c) {
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
    } else {
        answer(c, body);
    }
}

static void receive(struct client *c) {
    ssize_t n = recv(c->fd, c->request + c->len, REQUEST_SIZE - c->len, 0);
    if (n > 0 && (c->waiting || c->out.len > 0)) {
        refuse(c, "bytes behind the body");
    } else if (n > 0) {
        c->len += (size_t)n;
        handle(c);
    } else if (n == 0 || errno != EAGAIN) {
        drop(c);
    }
}

/* The loop */

/* Nagle's algorithm would hold a chunk back until the one before it is acknowledged. */
static void accept_all(int listener) {
    int one = 1;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *c = calloc(1, sizeof *c);
        if (c == NULL || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) {
            die("accept");
        }
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD);
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

static void raise_file_limit(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* Of a descriptor that is no client's, the event has its address. */
static void watch_descriptor(int *fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, *fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void on_event(struct client *c, uint32_t events) {
    if ((events & ~(uint32_t)EPOLLOUT) != 0) {
        receive(c);
    } else {
        go_on(c);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: server ANSWER-FILE\n");
        return 2;
    }
    answers_make(argv[1]);
    raise_file_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int input = STDIN_FILENO;
    int listener = listen_on_loopback();
    watch_descriptor(&listener);
    watch_descriptor(&timer);
    watch_descriptor(&input);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            void *source = events[i].data.ptr;
            uint64_t ticks;
            if (source == &listener) {
                accept_all(listener);
            } else if (source == &timer) {
                (void)!read(timer, &ticks, sizeof ticks);
            } else if (source != &input) {
                on_event(source, events[i].events);
            } else if (read(input, &ticks, sizeof ticks) <= 0) {
                return 0;
            }
        }
        for (int64_t now = now_ns(); first != NULL && first->due <= now;) {
            on_time(first);
        }
        set_timer();
    }
}
