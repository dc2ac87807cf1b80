/* weigh: the C form of weigh.py, where the RFCs are named. */
#include "hot.h"

enum {
    ORIGIN = 1,
    AS_PATH = 2,
    MED = 4,
    LOCAL_PREF = 5,
    COMMUNITIES = 8,
    ORIGINATOR_ID = 9,
    CLUSTER_LIST = 10,
    KINDS = 11, /* those above are of no weight */
};

enum { EXTENDED = 0x10, AS_SET = 1, AS_SEQUENCE = 2, DEFAULT_LOCAL_PREF = 100 };

static size_t size_of(struct octets octets)
{
    return (size_t)(octets.end - octets.at);
}

static uint32_t four(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Find the values of the attributes that have weight; false if the octets are no attributes, or one is there twice. */
static bool find(struct octets octets, struct octets *values)
{
    bool seen[256] = {false};

    while (octets.at < octets.end) {
        size_t header = *octets.at & EXTENDED ? 4 : 3, size;
        uint8_t kind;

        if (header > size_of(octets))
            return false;
        kind = octets.at[1];
        size = header == 4 ? (size_t)octets.at[2] << 8 | octets.at[3] : octets.at[2];
        if (size > size_of(octets) - header || seen[kind])
            return false;
        seen[kind] = true;
        octets.at += header;
        if (kind < KINDS)
            values[kind] = (struct octets){octets.at, octets.at + size};
        octets.at += size;
    }
    return true;
}

/* The number of four octets; `missing` without the attribute; false if it has another size. */
static bool number(struct octets value, long missing, long *found)
{
    *found = value.at && size_of(value) == 4 ? (long)four(value.at) : missing;
    return !value.at || size_of(value) == 4;
}

/* The length of a path, an AS_SET counting one, and its first AS if that is in a sequence. */
static bool measure(struct octets path, long *length, long *first)
{
    bool begun = false;

    *length = *first = 0;
    while (size_of(path) >= 2) {
        unsigned kind = path.at[0], count = path.at[1];

        if ((kind != AS_SET && kind != AS_SEQUENCE) || count == 0 || 4 * (size_t)count > size_of(path) - 2)
            return false;
        if (!begun && kind == AS_SEQUENCE)
            *first = (long)four(path.at + 2);
        begun = true;
        *length += kind == AS_SEQUENCE ? (long)count : 1;
        path.at += 2 + 4 * (size_t)count;
    }
    return path.at == path.end;
}

static bool is_shutting_down(struct octets communities)
{
    for (; size_of(communities) >= 4; communities.at += 4)
        if (four(communities.at) == 0xffff0000U)
            return true;
    return false;
}

PyObject *hot_weigh(PyObject *Py_UNUSED(module), PyObject *object)
{
    struct octets octets, values[KINDS] = {{NULL, NULL}};
    long local_pref, med, originator, length, first;

    if (!hot_octets(object, &octets))
        return NULL;
    if (!find(octets, values) || !measure(values[AS_PATH], &length, &first) ||
        !number(values[LOCAL_PREF], DEFAULT_LOCAL_PREF, &local_pref) || !number(values[MED], 0, &med) ||
        !number(values[ORIGINATOR_ID], -1, &originator) || !values[ORIGIN].at || size_of(values[ORIGIN]) != 1)
        Py_RETURN_NONE;
    if (is_shutting_down(values[COMMUNITIES]))
        local_pref = 0;
    return Py_BuildValue("(llillln)", local_pref, length, (int)*values[ORIGIN].at, first, med, originator,
                         (Py_ssize_t)(size_of(values[CLUSTER_LIST]) / 4));
}
