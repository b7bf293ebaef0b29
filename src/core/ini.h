/* The ini files that MLflow and Databricks read: ~/.mlflow/credentials, as Python's configparser
 * reads it by default and with its failures, and .databrickscfg, as Databricks' own programs read
 * it. */
#ifndef MOONFLOW_CORE_INI_H
#define MOONFLOW_CORE_INI_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

enum { INI_MAX = 1048576, INI_MAX_ENTRIES = 4096 };

struct ini_entry {
    const char *section;
    const char *key; /* lower case; NULL where the entry is the section's header */
    char *value;
    int line; /* counted from 1 */
};

struct ini {
    struct ini_entry *entries; /* in the file's order */
    size_t count;
    size_t capacity;
    char *text; /* every string of the entries lies in here */
    size_t size;
};

/* Parses a copy of the text:
 * - [section] headers, names with case; a key of [DEFAULT] counts in every section;
 * - "key = value" or "key: value", keys without case, white space around both dropped;
 * - whole lines that start with # or ; are comments; a # or ; behind a value belongs to it;
 * - a line that is indented deeper than its key goes on with the value, after a newline;
 * - "%%" in a value is "%". Python's "%(name)s" is refused: we do not expand it. A "%" of its own,
 *   which Python refuses, is itself.
 * A section or key given twice, a key before any section and a line that is nothing of this are
 * errors: kind config, naming the line by its number only, as it may hold a secret. The document
 * owns its memory: ini_free it after success; after failure there is nothing to free. */
bool ini_parse(struct ini *ini, const char *text, size_t len, struct error *err);

/* The same for .databrickscfg, whose lines are another dialect: a value in quotes loses them, a #
 * or ; with white space before it begins a comment, a "%" is itself, a line that is indented is a
 * line of its own, and a section may be given in several places. */
bool ini_parse_databricks(struct ini *ini, const char *text, size_t len, struct error *err);

/* Releases the memory, overwriting it first. */
void ini_free(struct ini *ini);

/* Whether the file has this section's header. */
bool ini_has_section(const struct ini *ini, const char *section);

/* The entry of a key (lower case) in a section itself, or NULL. */
const struct ini_entry *ini_own(const struct ini *ini, const char *section, const char *key);

/* The entry of a key (lower case) in a section, or else in [DEFAULT], or NULL. A section that the
 * file lacks has no keys, not even those of [DEFAULT]. */
const struct ini_entry *ini_get(const struct ini *ini, const char *section, const char *key);

#endif
