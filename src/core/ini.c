/* Everything happens in place, in one copy of the text: a stripped, joined or unescaped value is
 * never longer than what was written. So a secret in the file has one copy, which ini_free wipes.
 */
#include "core/ini.h"

#include <stdlib.h>
#include <string.h>

static const char default_section[] = "DEFAULT";
static const char utf8_mark[] = "\xEF\xBB\xBF";

/* Where the parser is. `value_end` is the end of the current key's value so far, NULL where no key
 * is open; lines that go on with the value are moved there. */
struct parser {
    struct ini *ini;
    struct error *err;
    bool databricks; /* Databricks' dialect, not Python's */
    int line;
    const char *section; /* NULL before the first header */
    char *value_end;
    size_t indent;      /* of the current key's line */
    size_t blank_lines; /* seen since the value's last line */
};

static bool fail(struct parser *p, const char *why) {
    return error_set(p->err, ERROR_CONFIG, NULL, "line %d: %s", p->line, why);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static char *skip_space(char *text, const char *end) {
    while (text < end && is_space(*text)) {
        text++;
    }
    return text;
}

static char *drop_space(const char *text, char *end) {
    while (end > text && is_space(end[-1])) {
        end--;
    }
    return end;
}

static const struct ini_entry *find(const struct ini *ini, const char *section, const char *key) {
    for (size_t i = 0; i < ini->count; i++) {
        const struct ini_entry *e = &ini->entries[i];
        if (strcmp(e->section, section) == 0 &&
            (key == NULL ? e->key == NULL : e->key != NULL && strcmp(e->key, key) == 0)) {
            return e;
        }
    }
    return NULL;
}

static bool add(struct parser *p, struct ini_entry entry) {
    struct ini *ini = p->ini;
    if (ini->count == INI_MAX_ENTRIES) {
        return fail(p, "too many sections and keys");
    }
    if (ini->count == ini->capacity) {
        size_t capacity = ini->capacity == 0 ? 16 : ini->capacity * 2;
        struct ini_entry *entries = realloc(ini->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            return fail(p, "not enough memory");
        }
        ini->entries = entries;
        ini->capacity = capacity;
    }
    ini->entries[ini->count++] = entry;
    return true;
}

/* `text` is behind the opening bracket; what follows the last closing one is dropped. */
static bool read_header(struct parser *p, char *text, char *end) {
    char *close = memrchr(text, ']', (size_t)(end - text));
    if (close == NULL || close == text) {
        return fail(p, "a section is written [name]");
    }
    *close = '\0';
    p->section = text;
    p->value_end = NULL;
    if (find(p->ini, text, NULL) != NULL) {
        return p->databricks || strcmp(text, default_section) == 0 ||
               fail(p, "this section was there before");
    }
    return add(p, (struct ini_entry){.section = text, .line = p->line});
}

/* Takes quotes and a comment away: what is in quotes up to their end, where only a comment follows;
 * else all that stands before a sign of a comment with white space before it. Returns the value,
 * and where it ends in `*end`. */
static char *undecorate(char *value, char **end) {
    if (value < *end && (*value == '"' || *value == '\'')) {
        char *close = memchr(value + 1, *value, (size_t)(*end - value - 1));
        char *rest = close != NULL ? skip_space(close + 1, *end) : *end;
        if (close != NULL && (rest == *end || *rest == '#' || *rest == ';')) {
            *end = close;
            return value + 1;
        }
    }
    for (char *c = value; c < *end; c++) {
        if ((*c == '#' || *c == ';') && is_space(c[-1])) {
            *end = drop_space(value, c);
        }
    }
    return value;
}

static bool read_pair(struct parser *p, char *text, char *end) {
    if (p->section == NULL) {
        return fail(p, "a key stands before the first [section]");
    }
    char *sign = text;
    while (sign < end && *sign != '=' && *sign != ':') {
        sign++;
    }
    if (sign == end) {
        return fail(p, "neither a [section] nor \"key = value\"");
    }
    char *key_end = drop_space(text, sign);
    if (key_end == text) {
        return fail(p, "there is no key before the sign");
    }
    for (char *c = text; c < key_end; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    }
    char *value = skip_space(sign + 1, end);
    *key_end = '\0';
    if (find(p->ini, p->section, text) != NULL) {
        return fail(p, "this key was there before in its section");
    }
    if (p->databricks) {
        value = undecorate(value, &end);
    }
    *end = '\0';
    p->value_end = end;
    p->blank_lines = 0;
    return add(p, (struct ini_entry){p->section, text, value, p->line});
}

static void continue_value(struct parser *p, const char *text, const char *end) {
    for (; p->blank_lines > 0; p->blank_lines--) {
        *p->value_end++ = '\n';
    }
    *p->value_end++ = '\n';
    memmove(p->value_end, text, (size_t)(end - text));
    p->value_end += end - text;
    *p->value_end = '\0';
}

static bool read_line(struct parser *p, char *line, char *end) {
    char *text = skip_space(line, end);
    end = drop_space(text, end);
    size_t indent = (size_t)(text - line);
    if (text == end) {
        p->blank_lines++;
        return true;
    }
    if (*text == '#' || *text == ';') {
        return true;
    }
    if (p->value_end != NULL && indent > p->indent && !p->databricks) {
        continue_value(p, text, end);
        return true;
    }
    p->indent = indent;
    return *text == '[' ? read_header(p, text + 1, end) : read_pair(p, text, end);
}

/* Turns "%%" into "%" where it stands; false where "%(" asks for another key's value. */
static bool unescape(char *value) {
    char *out = value;
    for (const char *in = value; *in != '\0'; in++) {
        if (in[0] == '%' && in[1] == '(') {
            return false;
        }
        if (in[0] == '%' && in[1] == '%') {
            in++;
        }
        *out++ = *in;
    }
    *out = '\0';
    return true;
}

static bool read_all(struct parser *p) {
    char *end = p->ini->text + p->ini->size;
    char *line = p->ini->text;
    if (p->ini->size >= 3 && memcmp(line, utf8_mark, 3) == 0) {
        line += 3;
    }
    while (line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *line_end = newline != NULL ? newline : end;
        p->line++;
        if (!read_line(p, line, line_end)) {
            return false;
        }
        line = line_end + 1;
    }
    for (size_t i = 0; i < p->ini->count && !p->databricks; i++) {
        const struct ini_entry *e = &p->ini->entries[i];
        if (e->key != NULL && !unescape(e->value)) {
            p->line = e->line;
            fail(p, "a %(name)s in a value is not expanded here");
            error_hint(p->err, "write the value out; a percent sign is written %%%%");
            return false;
        }
    }
    return true;
}

static bool parse(struct ini *ini, const char *text, size_t len, bool databricks,
                  struct error *err) {
    *ini = (struct ini){.size = len};
    struct parser p = {.ini = ini, .err = err, .databricks = databricks};
    if (len > INI_MAX) {
        return error_set(err, ERROR_CONFIG, NULL, "more than %d bytes", INI_MAX);
    }
    if (memchr(text, '\0', len) != NULL) {
        return error_set(err, ERROR_CONFIG, NULL, "a NUL byte: this is not text");
    }
    ini->text = malloc(len + 1);
    if (ini->text == NULL) {
        return error_set(err, ERROR_CONFIG, NULL, "not enough memory");
    }
    memcpy(ini->text, text, len);
    ini->text[len] = '\0';
    if (!read_all(&p)) {
        ini_free(ini);
        return false;
    }
    return true;
}

bool ini_parse(struct ini *ini, const char *text, size_t len, struct error *err) {
    return parse(ini, text, len, false, err);
}

bool ini_parse_databricks(struct ini *ini, const char *text, size_t len, struct error *err) {
    return parse(ini, text, len, true, err);
}

void ini_free(struct ini *ini) {
    if (ini->text != NULL) {
        explicit_bzero(ini->text, ini->size);
    }
    free(ini->text);
    free(ini->entries);
    *ini = (struct ini){0};
}

bool ini_has_section(const struct ini *ini, const char *section) {
    return find(ini, section, NULL) != NULL;
}

const struct ini_entry *ini_own(const struct ini *ini, const char *section, const char *key) {
    return find(ini, section, key);
}

const struct ini_entry *ini_get(const struct ini *ini, const char *section, const char *key) {
    if (!ini_has_section(ini, section)) {
        return NULL;
    }
    const struct ini_entry *own = find(ini, section, key);
    return own != NULL ? own : find(ini, default_section, key);
}
