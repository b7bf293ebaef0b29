/* Replaces secrets in text by <redacted>: one redactor for every error, log and history. It knows
 * the secrets by value; whose they are and where they come from it does not know. */
#ifndef MOONFLOW_CORE_REDACT_H
#define MOONFLOW_CORE_REDACT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

#define REDACT_MARK "<redacted>"

enum {
    REDACT_MIN = 8,          /* bytes: what is shorter is found only behind "Bearer " */
    REDACT_CUT_MIN = 16,     /* bytes: of what is longer, a cut-off beginning counts too */
    REDACT_MAX_NEEDLES = 512 /* beyond these the ones that were added longest ago are forgotten */
};

struct redact {
    struct buf *needles; /* texts to look for, the latest last */
    size_t count;
};

/* Knows no secrets; allocates nothing. */
void redact_init(struct redact *r);

/* Forgets the secrets, overwriting their memory; usable again. */
void redact_free(struct redact *r);

/* Learns a secret and its base64 form. Adding one again makes it the latest. One of less than
 * REDACT_MIN bytes would match in the middle of innocent words, so only "Bearer " before it makes
 * it known. False where memory runs out. */
bool redact_add(struct redact *r, const char *secret, size_t len);

/* Appends the text to `out` with each secret replaced by REDACT_MARK: as it is, with any of its
 * bytes percent-encoded or escaped by a backslash, and in base64. Of a secret of REDACT_CUT_MIN
 * bytes or more also the first REDACT_MIN bytes or more of it, as a text may be cut off. False
 * where `out` is full. */
bool redact_text(const struct redact *r, const char *text, size_t len, struct buf *out);

#endif
