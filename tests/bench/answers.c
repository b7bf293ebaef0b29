#include "answers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_SIZE = 64 * 1024, STAMP_DIGITS = 19 };

/* A chunk as it goes over the wire; the time is written into it. */
struct chunk {
    char data[CHUNK_MAX];
    size_t len;
    size_t stamp; /* where the time is */
};

static const char *const WORDS[] = {
    "Here",  " is",     " the",   " summary", " of",    " the", " last",    " week",
    ":",     " all",    " tests", " pass",    ",",      " the", " figures", " look",
    " as",   " before", " and",   " no",      "\\n\\n", "1",    ".",        " One",
    " host", " was",    " moved", "; its",    " clock", " is",  " exact",   ".",
};
enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };

static struct chunk role_chunk, word_chunks[WORD_COUNT], last_chunk;
static struct answer chat, floats, base64;

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Answers that grow while they are written. */

struct text {
    char *data;
    size_t len, cap;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...) {
    enum { MOST = 1024 };
    if (t->cap - t->len < MOST) {
        t->cap = t->cap * 2 + MOST;
        t->data = realloc(t->data, t->cap);
        if (t->data == NULL) {
            die("realloc");
        }
    }
    va_list args;
    va_start(args, format);
    t->len += (size_t)vsnprintf(t->data + t->len, MOST, format, args);
    va_end(args);
}

static struct answer with_head(const char *body, size_t len) {
    enum { HEAD_SIZE = 256 };
    char *data = malloc(HEAD_SIZE + len);
    if (data == NULL) {
        die("malloc");
    }
    int head = snprintf(data, HEAD_SIZE,
                        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\nConnection: keep-alive\r\n\r\n",
                        len);
    memcpy(data + head, body, len);
    return (struct answer){data, (size_t)head + len};
}

/* A chat completion */

static void make_chat(const char *path) {
    char body[ANSWER_SIZE];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        die(path);
    }
    size_t len = fread(body, 1, sizeof body, file);
    fclose(file);
    chat = with_head(body, len);
}

struct answer answer_chat(void) {
    return chat;
}

/* Embeddings */

/* Numbers as of a vector of length 1: mostly below 0.1, of either sign, and the same every time. */
static float next_number(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return ((float)(*state >> 8) / (float)(1 << 24) - 0.5F) * 0.1F;
}

static void add_base64(struct text *t, const unsigned char *bytes, size_t len) {
    static const char ALPHABET[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    _Static_assert(DIMENSIONS * sizeof(float) % 3 == 0, "there is no padding");
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        add(t, "%c%c%c%c", ALPHABET[group >> 18], ALPHABET[group >> 12 & 63],
            ALPHABET[group >> 6 & 63], ALPHABET[group & 63]);
    }
}

static void add_vector(struct text *t, bool as_base64, uint32_t *state) {
    unsigned char bytes[DIMENSIONS * sizeof(float)];
    for (size_t i = 0; i < DIMENSIONS; i++) {
        float number = next_number(state);
        if (as_base64) {
            uint32_t bits;
            memcpy(&bits, &number, sizeof bits);
            for (size_t k = 0; k < sizeof bits; k++) {
                bytes[i * sizeof bits + k] = (unsigned char)(bits >> (8 * k));
            }
        } else {
            add(t, "%s%.9g", i > 0 ? "," : "", (double)number);
        }
    }
    if (as_base64) {
        add_base64(t, bytes, sizeof bytes);
    }
}

static struct answer make_embeddings(bool as_base64) {
    struct text t = {0};
    uint32_t state = 20260101;
    add(&t, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < EMBEDDINGS; i++) {
        add(&t, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":%s", i > 0 ? "," : "", i,
            as_base64 ? "\"" : "[");
        add_vector(&t, as_base64, &state);
        add(&t, "%s}", as_base64 ? "\"" : "]");
    }
    add(&t, "],\"model\":\"text-embedding-3-small\","
            "\"usage\":{\"prompt_tokens\":800,\"total_tokens\":800}}");
    struct answer answer = with_head(t.data, t.len);
    free(t.data);
    return answer;
}

struct answer answer_embeddings(bool as_base64) {
    return as_base64 ? base64 : floats;
}

/* Streams. Servers write an event at a time, so each is a chunk of HTTP's as well. */

static struct chunk make_chunk(const char *delta, const char *finish_reason) {
    static const char STAMP[] = "\"obfuscation\":\"";
    struct chunk c;
    char event[CHUNK_MAX - 16];
    int len =
        snprintf(event, sizeof event,
                 "data: {\"id\":\"chatcmpl-9Yx2aKqLm0b1cD\",\"object\":\"chat.completion.chunk\","
                 "\"created\":1767225600,\"model\":\"gpt-4o-mini-2024-07-18\","
                 "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_50cad350e4\","
                 "\"choices\":[{\"index\":0,\"delta\":{%s},\"logprobs\":null,"
                 "\"finish_reason\":%s}],%s%0*d\"}\n\n",
                 delta, finish_reason, STAMP, (int)STAMP_DIGITS, 0);
    c.len = (size_t)snprintf(c.data, sizeof c.data, "%x\r\n%s\r\n", (unsigned)len, event);
    c.stamp = (size_t)(strstr(c.data, STAMP) - c.data) + sizeof STAMP - 1;
    return c;
}

static void make_chunks(void) {
    role_chunk = make_chunk("\"role\":\"assistant\",\"content\":\"\"", "null");
    for (size_t i = 0; i < WORD_COUNT; i++) {
        char delta[64];
        snprintf(delta, sizeof delta, "\"content\":\"%s\"", WORDS[i]);
        word_chunks[i] = make_chunk(delta, "null");
    }
    last_chunk = make_chunk("", "\"stop\"");
}

struct answer answer_stream_head(void) {
    static const char HEAD[] = "HTTP/1.1 200 OK\r\nServer: bench\r\n"
                               "Content-Type: text/event-stream; charset=utf-8\r\n"
                               "Cache-Control: no-cache\r\nConnection: keep-alive\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    return (struct answer){HEAD, sizeof HEAD - 1};
}

long chunks_count(long n) {
    return n + 3;
}

size_t chunks_write(char *out, long index, long n, int64_t now) {
    static const char END[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    if (index > n + 1) {
        memcpy(out, END, sizeof END - 1);
        return sizeof END - 1;
    }
    const struct chunk *c = index == 0   ? &role_chunk
                            : index <= n ? &word_chunks[(size_t)(index - 1) % WORD_COUNT]
                                         : &last_chunk;
    memcpy(out, c->data, c->len);
    for (size_t i = STAMP_DIGITS; i > 0; i--, now /= 10) {
        out[c->stamp + i - 1] = (char)('0' + now % 10);
    }
    return c->len;
}

void answers_make(const char *path) {
    make_chat(path);
    floats = make_embeddings(false);
    base64 = make_embeddings(true);
    make_chunks();
}
