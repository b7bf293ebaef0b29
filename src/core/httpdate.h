/* Dates as HTTP headers write them (RFC 9110, 5.6.7), without the C library's locale. */
#ifndef MOONFLOW_CORE_HTTPDATE_H
#define MOONFLOW_CORE_HTTPDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads all three forms:
 *   Sun, 06 Nov 1994 08:49:37 GMT     IMF-fixdate
 *   Sunday, 06-Nov-94 08:49:37 GMT    RFC 850: a year more than 50 years after `now` is a past one
 *   Sun Nov  6 08:49:37 1994          asctime
 * into seconds since 1970. `now` is the wall clock in the same unit. The weekday must be one, but
 * need not fit the date. False where the text is none of these; `epoch` is then untouched. */
bool httpdate_parse(const char *text, size_t len, int64_t now, int64_t *epoch);

#endif
