/* Targets: an accepted one has a name, without control bytes, and its rest lies within the text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct target target;
    struct error err;
    const char *text = (const char *)data;
    if (!target_parse(&target, text, size, &err)) {
        require(err.kind == ERROR_CONFIG && err.message[0] != '\0');
        return 0;
    }
    require(target.name[0] != '\0' && strpbrk(target.name, "?#\r\n\t\x7F") == NULL);
    if (target.rest != NULL) {
        require(target.rest > text && target.rest + target.rest_len == text + size);
        require(strpbrk(target.name, "/:_ABCXYZ") == NULL);
    }
    return 0;
}
