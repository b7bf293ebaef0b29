/* What the benchmarks' server answers with: a chat completion out of a file, a stream of one, and
 * embeddings. All of it is made when the program starts but the stream, which is made as it goes:
 * its chunks say when that was. */
#ifndef MOONFLOW_BENCH_ANSWERS_H
#define MOONFLOW_BENCH_ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that one chunk of a stream takes at the most, as chunks_write writes it. */
enum { CHUNK_MAX = 512 };

/* A whole answer with its head. */
struct answer {
    const char *data;
    size_t len;
};

/* Makes the answers; `path` is the file of the chat completion. Ends the program where it can not.
 */
void answers_make(const char *path);

struct answer answer_chat(void);

/* EMBEDDINGS vectors of DIMENSIONS numbers each, as text or as base64 of the same numbers. */
enum { EMBEDDINGS = 100, DIMENSIONS = 1536 };
struct answer answer_embeddings(bool base64);

/* The head of a stream's answer, before its first chunk. */
struct answer answer_stream_head(void);

/* A stream of n words: the role, the words, the reason why it ends, [DONE] with the end of the
 * answer. So many chunks that is. */
long chunks_count(long n);

/* Writes chunk `index` of a stream of n words to `out`, which has room for CHUNK_MAX bytes; `now`
 * is the time in nanoseconds that it will tell. Returns how many bytes that were. */
size_t chunks_write(char *out, long index, long n, int64_t now);

#endif
