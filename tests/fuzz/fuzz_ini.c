/* Ini files: every entry that was read can be looked up again, and errors name a line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

/* Databricks' dialect may repeat a section: what was said last of a key counts. */
static void read_databricks(const char *text, size_t size) {
    struct ini ini;
    struct error err;
    if (!ini_parse_databricks(&ini, text, size, &err)) {
        require(err.kind == ERROR_CONFIG && err.message[0] != '\0');
        return;
    }
    for (size_t i = 0; i < ini.count; i++) {
        const struct ini_entry *e = &ini.entries[i];
        require(ini_has_section(&ini, e->section));
        require(e->key == NULL || ini_own(&ini, e->section, e->key) != NULL);
    }
    ini_free(&ini);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ini ini;
    struct error err;
    read_databricks((const char *)data, size);
    if (!ini_parse(&ini, (const char *)data, size, &err)) {
        require(err.kind == ERROR_CONFIG && err.message[0] != '\0');
        return 0;
    }
    int line = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < ini.count; i++) {
        const struct ini_entry *e = &ini.entries[i];
        require(e->line > line);
        line = e->line;
        if (e->key == NULL) {
            require(ini_has_section(&ini, e->section));
            continue;
        }
        bytes += strlen(e->key) + strlen(e->value) + 1;
        require(e->key[0] != '\0' && strpbrk(e->key, "=:\n") == NULL);
        require(!ini_has_section(&ini, e->section) || ini_get(&ini, e->section, e->key) == e);
    }
    require(bytes <= size);
    ini_free(&ini);
    return 0;
}
