/* A server for the C tests: a thread that plays scripted bytes to one connection after another, and
 * keeps what it was asked. */
#ifndef MOONFLOW_TESTS_SCRIPT_SERVER_H
#define MOONFLOW_TESTS_SCRIPT_SERVER_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum ending { CLOSES, STALLS, KEEPS };

/* Reads a request, sends `answer`, then closes, waits for the client to leave, or goes on. */
struct server {
    const char *answer;
    size_t answer_len;
    enum ending ending;
    int cut_from; /* the n-th request and later ones get no answer but a close; 0 never */
    int port;
    int listener;
    pthread_t thread;
    char seen[64 * 1024]; /* the requests */
    size_t seen_len;
    int requests;
    int connections;
};

static size_t body_length(const char *head) {
    const char *field = strstr(head, "Content-Length: ");
    return field != NULL ? strtoul(field + strlen("Content-Length: "), NULL, 10) : 0;
}

/* One request into s->seen. False where the client has left. */
static bool read_request(struct server *s, int fd) {
    size_t start = s->seen_len;
    for (;;) {
        const char *end = strstr(s->seen + start, "\r\n\r\n");
        if (end != NULL &&
            s->seen_len >= (size_t)(end + 4 - s->seen) + body_length(s->seen + start)) {
            s->requests++;
            return true;
        }
        size_t room = sizeof s->seen - 1 - s->seen_len;
        ssize_t n = room > 0 ? read(fd, s->seen + s->seen_len, room) : 0;
        if (n <= 0) {
            return false;
        }
        s->seen_len += (size_t)n;
        s->seen[s->seen_len] = '\0';
    }
}

static void wait_for_end(int fd) {
    char byte;
    while (recv(fd, &byte, 1, 0) > 0) {
    }
}

static void serve(struct server *s, int fd) {
    while (read_request(s, fd)) {
        if (s->cut_from > 0 && s->requests >= s->cut_from) {
            return;
        }
        for (size_t sent = 0; sent < s->answer_len;) {
            ssize_t n = send(fd, s->answer + sent, s->answer_len - sent, MSG_NOSIGNAL);
            if (n <= 0) {
                return;
            }
            sent += (size_t)n;
        }
        if (s->ending == STALLS) {
            wait_for_end(fd);
        }
        if (s->ending != KEEPS) {
            return;
        }
    }
}

static void *run_server(void *ctx) {
    struct server *s = ctx;
    int fd;
    while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
        s->connections++;
        serve(s, fd);
        close(fd);
    }
    return NULL;
}

static struct server *start_server(const char *answer, size_t len, enum ending ending) {
    struct server *s = calloc(1, sizeof *s);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    s->answer = answer;
    s->answer_len = len;
    s->ending = ending;
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s->listener, (struct sockaddr *)&address, size) != 0 || listen(s->listener, 16) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&address, &size) != 0) {
        perror("test server");
        exit(1);
    }
    s->port = ntohs(address.sin_port);
    return s;
}

static struct server *serve_text(const char *answer, enum ending ending) {
    struct server *s = start_server(answer, strlen(answer), ending);
    pthread_create(&s->thread, NULL, run_server, s);
    return s;
}

static void stop_server(struct server *s) {
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    free(s);
}

#endif
