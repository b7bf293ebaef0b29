/* A growing byte buffer with a maximum. Every buffer that outside bytes can make grow is one. */
#ifndef MOONFLOW_CORE_BUF_H
#define MOONFLOW_CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char
        *data; /* len bytes, then a NUL that len does not count; NULL while empty and unallocated */
    size_t len;
    size_t cap;
    size_t max; /* len never passes it */
};

/* An empty buffer; allocates nothing. */
void buf_init(struct buf *b, size_t max);

/* Releases the memory; the buffer is empty and usable again. */
void buf_free(struct buf *b);

/* As buf_free, but overwrites the bytes first: for secrets. Growing leaves copies behind, so a
 * buffer for a secret is reserved whole before the first byte goes in. */
void buf_wipe(struct buf *b);

/* Empties it and keeps the memory. */
void buf_clear(struct buf *b);

/* Room for `extra` more bytes. False, with the buffer unchanged, where that passes the maximum or
 * memory runs out; buf_append and the others likewise. */
bool buf_reserve(struct buf *b, size_t extra);
bool buf_append(struct buf *b, const void *bytes, size_t n);
bool buf_puts(struct buf *b, const char *text);
bool buf_putc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Removes the first n bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);

#endif
