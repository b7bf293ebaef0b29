/* Base64: what is decoded is encoded to the same text, and what is refused leaves nothing. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf bytes;
    struct buf text;
    buf_init(&bytes, size + 1);
    buf_init(&text, size + 8);
    if (!base64_decode(&bytes, (const char *)data, size)) {
        require(bytes.len == 0);
    } else {
        require(base64_encode(&text, bytes.data, bytes.len));
        size_t padding = text.len > 0 && text.data[text.len - 1] == '=';
        padding += text.len > 1 && text.data[text.len - 2] == '=';
        require(size == text.len || size == text.len - padding);
        require(size == 0 || memcmp(text.data, data, size) == 0);
    }
    buf_free(&bytes);
    buf_free(&text);
    return 0;
}
