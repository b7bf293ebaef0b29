/* Server-sent events (WHATWG HTML, "Interpreting an event stream"), with the tolerance that model
 * servers need (spec/openai.md 3.1, 3.2). Takes bytes in pieces of any size and gives the same
 * events however they are split, in time linear in their number. */
#ifndef MOONFLOW_CORE_SSE_H
#define MOONFLOW_CORE_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

/* Bytes of one event: its data and its type. Nothing else of a stream takes memory. */
enum { SSE_EVENT_MAX = 16 << 20 };

/* What sse_next found. */
enum sse_result {
    SSE_MORE,     /* all bytes are used, no event is complete */
    SSE_EVENT,    /* an event */
    SSE_DONE,     /* the line "data: [DONE]", first of its event: the stream is over */
    SSE_TOO_LONG, /* the event is beyond the limit, or memory is out: the stream can not go on */
};

/* An event; its texts live in the parser until the next call, and have no NUL at their end. */
struct sse_event {
    const char *type; /* "" where the stream names none, which stands for "message" */
    size_t type_len;
    const char *data; /* lines joined by LF; valid UTF-8, with U+FFFD for what was not */
    size_t data_len;
};

/* Private. */
enum sse_part { SSE_NAME, SSE_SPACE, SSE_VALUE, SSE_IGNORED }; /* where in a line we are */
enum sse_field { SSE_OTHER, SSE_DATA, SSE_TYPE, SSE_ERROR };
enum { SSE_NAME_MAX = 5 }; /* a longer field name is not one of ours */

struct sse {
    struct buf data;      /* of the event that is being read, as it came */
    struct buf type;      /* likewise */
    size_t max;           /* for both together */
    size_t data_lines;    /* of the event that is being read */
    enum sse_part part;   /* of the line that is being read */
    enum sse_field field; /* whose value it is */
    unsigned char name_len;
    char name[SSE_NAME_MAX];
    unsigned char mark_len;  /* bytes seen of the byte order mark; its size once it can not come */
    bool after_cr;           /* the last byte was CR: an LF belongs to it */
    bool given;              /* `data` and `type` are an event that the caller has */
    enum sse_result outcome; /* SSE_MORE, until the stream is over or can not go on */
};

/* A parser at the start of a stream, for events of at most `max` bytes; allocates nothing. */
void sse_init(struct sse *s, size_t max);
void sse_free(struct sse *s);

/* Reads from bytes[*used..len-1] up to the end of the next event, and moves *used behind what was
 * read. Call it again with the same bytes until it returns SSE_MORE. An event without data is
 * none, one with empty data is one. An event that the stream ends in is dropped by never asking
 * again. `error: text`, which some servers send as a field, is an event of type "error" with the
 * text as its data. After SSE_DONE and SSE_TOO_LONG every further call returns the same and reads
 * nothing. `event` is set with SSE_EVENT only. */
enum sse_result sse_next(struct sse *s, const char *bytes, size_t len, size_t *used,
                         struct sse_event *event);

#endif
