/* Base64 (RFC 4648, section 4): for Basic credentials, for the redactor to know them by, and for
 * vectors of numbers. */
#ifndef MOONFLOW_CORE_BASE64_H
#define MOONFLOW_CORE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

/* How many characters n bytes become, padding counted. */
size_t base64_length(size_t n);

/* Appends the n bytes in the standard alphabet, padded. False, with nothing appended, where the
 * buffer can not hold them. The buffer grows once at most, so that no copy of a secret is left in
 * freed memory. */
bool base64_encode(struct buf *out, const void *bytes, size_t n);

/* Appends the bytes that the n characters stand for. The padding may be missing. False, with
 * nothing appended, where a character is not of the alphabet, the length is none that base64 has,
 * bits that stand for nothing are set, or the buffer can not hold the bytes. */
bool base64_decode(struct buf *out, const char *text, size_t n);

#endif
