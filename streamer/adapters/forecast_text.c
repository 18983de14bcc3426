/* Forecasts as JSON lines: what `streamer.core.wire.write_lines` writes, byte for byte, in one pass.
 *
 * Plain C without Python's headers, so that one build serves every version of Python. Whoever calls it has checked
 * the shapes, and reserved room for `tidecast_room` bytes.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VERSION 2 /* raised with every change of what is written or of a signature, in forecast_text.py, too */
#define NUMBER_BYTES 48 /* sign, 16 digits, zeros before them to 22 decimals, point, comma; null */
#define COPIED 24       /* the longest part of a number */
#define INTEGER_BYTES 20

/* The loop over all numbers is made twice where glibc chooses between them as the library is loaded: bits are counted
 * and shifted faster on processors of the last ten years. What it calls is made part of it. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define FASTEST __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FASTEST
#endif
#define PART static inline __attribute__((always_inline))

static const char PAIRS[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657"
    "5859606162636465666768697071727374757677787980818283848586878889909192939495969798990";

static const double SCALES[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Write the digits of a number so that they end at `end`; returns where they begin. */
PART char *digits_before(char *end, uint64_t number) {
    uint32_t small;
    while (number > UINT32_MAX) {
        end -= 2;
        memcpy(end, PAIRS + 2 * (number % 100), 2);
        number /= 100;
    }
    for (small = (uint32_t)number; small >= 100; small /= 100) {
        end -= 2;
        memcpy(end, PAIRS + 2 * (small % 100), 2);
    }
    if (small >= 10) {
        end -= 2;
        memcpy(end, PAIRS + 2 * small, 2);
    } else {
        *--end = (char)('0' + small);
    }
    return end;
}

PART char *put(char *to, const char *text, int64_t length) {
    memcpy(to, text, (size_t)length);
    return to + length;
}

PART char *put_integer(char *to, int64_t number) {
    char buffer[INTEGER_BYTES + 1], *end = buffer + sizeof buffer, *begin;
    uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    begin = digits_before(end, size);
    if (number < 0) *--begin = '-';
    return put(to, begin, end - begin);
}

static uint32_t fours[10000]; /* the four digits of each number below 10,000, the first in the lowest byte */

__attribute__((constructor)) static void fill_fours(void) {
    for (uint32_t number = 0; number < 10000; number++) {
        const char *high = PAIRS + 2 * (number / 100), *low = PAIRS + 2 * (number % 100);
        fours[number] = (uint32_t)high[0] | (uint32_t)high[1] << 8 | (uint32_t)low[0] << 16 | (uint32_t)low[1] << 24;
    }
}

/* Store 8 bytes, the lowest one first. */
PART void put_eight(char *to, uint64_t bytes) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bytes = __builtin_bswap64(bytes);
#endif
    memcpy(to, &bytes, 8);
}

/* A number below 10^8 with 1 to 7 decimals. Its text is moved about in a register: bytes that were stored one by one
 * are slow to load together. */
PART char *put_short(char *to, uint32_t number, int places) {
    uint64_t text = fours[number / 10000] | (uint64_t)fours[number % 10000] << 32, digits = text ^ 0x3030303030303030;
    int before = digits ? __builtin_ctzll(digits) / 8 : 8, after = digits ? __builtin_clzll(digits) / 8 : 8;
    int whole = 8 - places - before; /* digits before the point, one at least */
    whole = whole > 0 ? whole : 1;
    text >>= 8 * (8 - places - whole);
    put_eight(to, text);
    to += whole;
    *to++ = '.';
    put_eight(to, text >> 8 * whole);
    return to + places - (after < places ? after : places - 1);
}

/* Copies of a fixed size are a few instructions, so more is copied than counts: what follows overwrites it. */
PART char *put_number(char *to, float number, int places) {
    char buffer[NUMBER_BYTES + COPIED], *end = buffer + NUMBER_BYTES, *begin, *point;
    int64_t whole;
    uint64_t size;
    if (number != number) {
        memcpy(to, "null", 4);
        return to + 4;
    }
    whole = llrint((double)number * SCALES[places]); /* half to even, as numpy's rint */
    *to = '-';
    to += whole < 0;
    size = (uint64_t)(whole < 0 ? -whole : whole);
    if (size < 100000000 && places > 0 && places < 8) return put_short(to, (uint32_t)size, places);
    begin = digits_before(end, size);
    point = end - places;
    while (begin >= point) *--begin = '0';
    memcpy(to, begin, COPIED);
    to += point - begin;
    *to++ = '.';
    if (places == 0) {
        *to++ = '0';
        return to;
    }
    while (end > point + 1 && end[-1] == '0') end--;
    memcpy(to, point, COPIED);
    return to + (end - point);
}

/* Of the source that this library was made from. */
int tidecast_version(void) { return VERSION; }

/* Bytes that may be written for n forecasts. */
int64_t tidecast_room(int64_t n, int64_t leads, int64_t levels, int64_t names_bytes, int64_t frame_bytes) {
    return n * (frame_bytes + 2 * INTEGER_BYTES + leads * levels * NUMBER_BYTES) + names_bytes + COPIED;
}

/* Write n texts one after another; an empty one for a forecast whose places are negative.
 *
 * names   n JSON strings, each ended by a line feed
 * frame   the texts of `Frame` one after another; ends[i] is where the i-th ends:
 *         head, after_offset, after_stream, cold, warm, one per level, tail
 * stops   n numbers, for where each text ends
 * returns the bytes written
 */
FASTEST int64_t tidecast_write(int64_t n, int64_t leads, int64_t levels, const int64_t *offsets, const char *names,
                       const int64_t *origin, const uint8_t *is_warm, const float *quantiles, const int8_t *places,
                       const char *frame, const int64_t *ends, char *out, int64_t *stops) {
    char *to = out;
#define TEXT(i) to = put(to, frame + ((i) ? ends[(i) - 1] : 0), ends[i] - ((i) ? ends[(i) - 1] : 0))
    for (int64_t row = 0; row < n; row++) {
        const float *numbers = quantiles + row * leads * levels;
        const char *name = names;
        names = (const char *)strchr(names, '\n') + 1;
        stops[row] = to - out;
        if (places[row] < 0) continue;
        TEXT(0);
        to = put_integer(to, offsets[row]);
        TEXT(1);
        to = put(to, name, names - 1 - name);
        TEXT(2);
        to = put_integer(to, origin[row]);
        TEXT(3 + (is_warm[row] != 0));
        for (int64_t level = 0; level < levels; level++) {
            TEXT(5 + level);
            for (int64_t lead = 0; lead < leads; lead++) {
                if (lead) *to++ = ',';
                to = put_number(to, numbers[lead * levels + level], places[row]);
            }
        }
        TEXT(5 + levels);
        stops[row] = to - out;
    }
    return to - out;
}
