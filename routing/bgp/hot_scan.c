/* split, lift and scan: the C form of scan.py, where the RFCs are named. */
#include "hot.h"

enum {
    OPEN = 1,
    UPDATE,
    NOTIFICATION,
    KEEPALIVE,
    ROUTE_REFRESH,
    HEADER = 19,
    CLASSIC_LIMIT = 4096,
    NOT_SYNCHRONIZED = 1,
    BAD_LENGTH,
    BAD_TYPE,
};

enum {
    ORIGIN = 1,
    AS_PATH = 2,
    NEXT_HOP = 3,
    MED = 4,
    LOCAL_PREF = 5,
    ATOMIC_AGGREGATE = 6,
    AGGREGATOR = 7,
    COMMUNITY = 8,
    ORIGINATOR_ID = 9,
    CLUSTER_LIST = 10,
    MP_REACH_NLRI = 14,
    MP_UNREACH_NLRI = 15,
    EXTENDED_COMMUNITIES = 16,
    LARGE_COMMUNITY = 32,
};

enum { EXTENDED = 0x10, PARTIAL = 0x20, WELL_KNOWN = 0x40, OPTIONAL = 0x80, OPTIONAL_TRANSITIVE = 0xc0 };

enum { SEQUENCE = 2, LAST_ORIGIN = 2, FAMILY_SIZE = 3, AFI_IPV6 = 2, IPV4_UNICAST = 1 << 8 | 1 };

static size_t size_of(struct octets octets)
{
    return (size_t)(octets.end - octets.at);
}

static unsigned two(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static PyObject *bytes_of(const uint8_t *at, const uint8_t *end)
{
    return PyBytes_FromStringAndSize((const char *)at, end - at);
}

/* --- split ------------------------------------------------------------------------------------------------------ */

/* The subcode of Message Header Error; 0: a good header. */
static int fault_of(const uint8_t *header, Py_ssize_t limit)
{
    static const uint8_t marker[16] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    static const uint8_t shortest[] = {
        [OPEN] = 29, [UPDATE] = 23, [NOTIFICATION] = 21, [KEEPALIVE] = HEADER, [ROUTE_REFRESH] = HEADER};
    unsigned size = two(header + 16), kind = header[18];

    if (memcmp(header, marker, sizeof marker) != 0)
        return NOT_SYNCHRONIZED;
    if (size < HEADER || (Py_ssize_t)size > limit)
        return BAD_LENGTH;
    if (kind < OPEN || kind > ROUTE_REFRESH)
        return BAD_TYPE;
    if (size < shortest[kind] || (kind == KEEPALIVE && size != HEADER) || (kind == OPEN && size > CLASSIC_LIMIT))
        return BAD_LENGTH;
    return 0;
}

static PyObject *fault(int subcode, const uint8_t *header)
{
    static const struct {
        uint8_t at, size;
    } data[] = {[NOT_SYNCHRONIZED] = {0, 0}, [BAD_LENGTH] = {16, 2}, [BAD_TYPE] = {18, 1}};

    return Py_BuildValue("(iy#)", subcode, header + data[subcode].at, (Py_ssize_t)data[subcode].size);
}

/* A tuple of a type and octets, handed over to it. Nothing in it can be part of a cycle: the collector need not know. */
static PyObject *message(unsigned kind, PyObject **parts, int count)
{
    PyObject *made = PyTuple_New(1 + count), *number = PyLong_FromLong((long)kind);
    bool failed = !made || !number;

    for (int at = 0; at < count; at++)
        failed |= !parts[at];
    if (failed) {
        for (int at = 0; at < count; at++)
            Py_XDECREF(parts[at]);
        Py_XDECREF(made);
        Py_XDECREF(number);
        return NULL;
    }
    PyTuple_SET_ITEM(made, 0, number);
    for (int at = 0; at < count; at++)
        PyTuple_SET_ITEM(made, 1 + at, parts[at]);
    PyObject_GC_UnTrack(made);
    return made;
}

static PyObject *plain(unsigned kind, struct octets body)
{
    PyObject *part = bytes_of(body.at, body.end);

    return message(kind, &part, 1);
}

/* The body is at least the two lengths. */
static PyObject *update(struct octets body)
{
    const uint8_t *withdrawn = body.at + 2, *attributes, *nlri;
    PyObject *parts[3];

    if (size_of(body) < 4U + two(body.at))
        return plain(UPDATE, body);
    attributes = withdrawn + two(body.at) + 2;
    if ((size_t)(body.end - attributes) < two(attributes - 2))
        return plain(UPDATE, body);
    nlri = attributes + two(attributes - 2);
    parts[0] = bytes_of(withdrawn, attributes - 2);
    parts[1] = bytes_of(attributes, nlri);
    parts[2] = bytes_of(nlri, body.end);
    return message(UPDATE, parts, 3);
}

/* Append the messages at the start of `buffer`, which is moved on; returns the fault of what follows, -1 with an exception. */
static int take_messages(PyObject *messages, struct octets *buffer, Py_ssize_t limit)
{
    while (size_of(*buffer) >= HEADER) {
        int subcode = fault_of(buffer->at, limit);
        unsigned size = two(buffer->at + 16), kind = buffer->at[18];
        struct octets body = {buffer->at + HEADER, buffer->at + size};
        PyObject *made;

        if (subcode)
            return subcode;
        if (size > size_of(*buffer))
            return 0;
        made = kind == UPDATE ? update(body) : plain(kind, body);
        if (!made || PyList_Append(messages, made) < 0) {
            Py_XDECREF(made);
            return -1;
        }
        Py_DECREF(made);
        buffer->at += size;
    }
    return 0;
}

PyObject *hot_split(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    struct octets buffer, left;
    Py_ssize_t limit;
    PyObject *messages;
    int subcode;

    if (!hot_arguments("split", 2, given) || !hot_octets(arguments[0], &buffer))
        return NULL;
    limit = PyLong_AsSsize_t(arguments[1]);
    if ((limit == -1 && PyErr_Occurred()) || !(messages = PyList_New(0)))
        return NULL;
    left = buffer;
    subcode = take_messages(messages, &left, limit);
    if (subcode < 0) {
        Py_DECREF(messages);
        return NULL;
    }
    return Py_BuildValue("(NnN)", messages, (Py_ssize_t)(left.at - buffer.at),
                         subcode ? fault(subcode, left.at) : Py_NewRef(Py_None));
}

/* --- attributes ------------------------------------------------------------------------------------------------- */

struct attribute {
    uint8_t flags, kind;
    const uint8_t *begin;
    struct octets value;
};

struct walk {
    struct octets left;
    uint64_t seen[4];
};

/* The next attribute: 1, or 0 at the end, or -1 if it does not end within the octets or was there before. */
static int next_attribute(struct walk *walk, struct attribute *attribute)
{
    const uint8_t *at = walk->left.at;
    size_t left = size_of(walk->left), header, size;

    if (left == 0)
        return 0;
    header = at[0] & EXTENDED ? 4 : 3;
    if (left < header)
        return -1;
    size = header == 4 ? two(at + 2) : at[2];
    if (left - header < size || walk->seen[at[1] >> 6] >> (at[1] & 63) & 1)
        return -1;
    walk->seen[at[1] >> 6] |= (uint64_t)1 << (at[1] & 63);
    *attribute = (struct attribute){at[0], at[1], at, {at + header, at + header + size}};
    walk->left.at = at + header + size;
    return 1;
}

/* --- lift ------------------------------------------------------------------------------------------------------- */

struct lifted {
    uint8_t head[3 + 5 + 16]; /* MP_REACH_NLRI without its prefixes, or NEXT_HOP */
    size_t head_size, kept; /* octets of that, and of the attributes as they came, NEXT_HOP not counted */
    struct octets next_hop; /* that attribute as it came */
    bool has_reach;
    unsigned long family, gone_family;
    struct octets reach, unreach;
};

static bool lift_reach(struct lifted *lifted, struct octets value)
{
    size_t size = size_of(value) > FAMILY_SIZE ? value.at[FAMILY_SIZE] : 0;
    uint8_t *head = lifted->head;

    if ((size != 4 && size != 16 && size != 32) || (size == 4 && two(value.at) == AFI_IPV6) || size_of(value) < 5 + size)
        return false;
    lifted->reach = (struct octets){value.at + 5 + size, value.end};
    if (size == 4 && lifted->family == IPV4_UNICAST) {
        memcpy(head, (const uint8_t[]){WELL_KNOWN, NEXT_HOP, 4}, 3);
        memcpy(head + 3, value.at + 4, 4);
        lifted->head_size = 7;
        return true;
    }
    size = size == 32 ? 16 : size;
    memcpy(head, (const uint8_t[]){OPTIONAL, MP_REACH_NLRI, (uint8_t)(5 + size)}, 3);
    memcpy(head + 3, value.at, FAMILY_SIZE);
    head[6] = (uint8_t)size;
    memcpy(head + 7, value.at + 4, size);
    head[7 + size] = 0;
    lifted->head_size = 8 + size;
    return true;
}

static bool lift_multiprotocol(struct lifted *lifted, const struct attribute *attribute)
{
    struct octets value = attribute->value;
    unsigned long family;

    if ((attribute->flags & ~EXTENDED) != OPTIONAL || size_of(value) < FAMILY_SIZE)
        return false;
    family = (unsigned long)two(value.at) << 8 | value.at[2];
    if (attribute->kind == MP_REACH_NLRI) {
        lifted->has_reach = true;
        lifted->family = family;
        return lift_reach(lifted, value);
    }
    lifted->gone_family = family;
    lifted->unreach = (struct octets){value.at + FAMILY_SIZE, value.end};
    return true;
}

static bool lift_all(struct lifted *lifted, struct octets attributes)
{
    struct walk walk = {.left = attributes};
    struct attribute attribute;
    int found;

    lifted->reach = lifted->unreach = lifted->next_hop = (struct octets){attributes.at, attributes.at};
    while ((found = next_attribute(&walk, &attribute)) > 0) {
        if (attribute.kind == MP_REACH_NLRI || attribute.kind == MP_UNREACH_NLRI) {
            if (!lift_multiprotocol(lifted, &attribute))
                return false;
        } else if (attribute.kind == NEXT_HOP) {
            lifted->next_hop = (struct octets){attribute.begin, attribute.value.end};
        } else {
            lifted->kept += (size_t)(attribute.value.end - attribute.begin);
        }
    }
    return found == 0;
}

static PyObject *lifted_octets(const struct lifted *lifted, struct octets attributes)
{
    size_t size = lifted->head_size + lifted->kept + (lifted->has_reach ? 0 : size_of(lifted->next_hop));
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    struct walk walk = {.left = attributes};
    struct attribute attribute;
    uint8_t *out;

    if (!made)
        return NULL;
    out = (uint8_t *)PyBytes_AS_STRING(made);
    memcpy(out, lifted->head, lifted->head_size);
    out += lifted->head_size;
    while (next_attribute(&walk, &attribute) > 0) {
        size_t octets = (size_t)(attribute.value.end - attribute.begin);

        if (attribute.kind == MP_REACH_NLRI || attribute.kind == MP_UNREACH_NLRI ||
            (attribute.kind == NEXT_HOP && lifted->has_reach))
            continue;
        memcpy(out, attribute.begin, octets);
        out += octets;
    }
    return made;
}

PyObject *hot_lift(PyObject *Py_UNUSED(module), PyObject *object)
{
    struct lifted lifted = {0};
    struct octets attributes;
    PyObject *octets;

    if (!hot_octets(object, &attributes))
        return NULL;
    if (!lift_all(&lifted, attributes))
        Py_RETURN_NONE;
    octets = lifted_octets(&lifted, attributes);
    if (!octets)
        return NULL;
    return Py_BuildValue("(Nky#ky#)", octets, lifted.family, lifted.reach.at, (Py_ssize_t)size_of(lifted.reach),
                         lifted.gone_family, lifted.unreach.at, (Py_ssize_t)size_of(lifted.unreach));
}

/* --- scan ------------------------------------------------------------------------------------------------------- */

/* What flags an attribute must have, and its length: exactly `size`, or a multiple of it that is not 0. */
struct shape {
    uint8_t flags, size;
    bool multiple, internal;
};

static const struct shape shapes[LARGE_COMMUNITY + 1] = {
    [ORIGIN] = {WELL_KNOWN, 1, false, false},
    [NEXT_HOP] = {WELL_KNOWN, 4, false, false},
    [MED] = {OPTIONAL, 4, false, false},
    [LOCAL_PREF] = {WELL_KNOWN, 4, false, true},
    [ATOMIC_AGGREGATE] = {WELL_KNOWN, 0, false, false},
    [AGGREGATOR] = {OPTIONAL_TRANSITIVE, 8, false, false},
    [COMMUNITY] = {OPTIONAL_TRANSITIVE, 4, true, false},
    [ORIGINATOR_ID] = {OPTIONAL, 4, false, true},
    [CLUSTER_LIST] = {OPTIONAL, 4, true, true},
    [EXTENDED_COMMUNITIES] = {OPTIONAL_TRANSITIVE, 8, true, false},
    [LARGE_COMMUNITY] = {OPTIONAL_TRANSITIVE, 12, true, false},
};

static bool good_value(const struct attribute *attribute)
{
    static const uint8_t nobody[4];

    if (attribute->kind == ORIGIN)
        return *attribute->value.at <= LAST_ORIGIN;
    return attribute->kind != AGGREGATOR || memcmp(attribute->value.at, nobody, sizeof nobody) != 0;
}

/* Whether no large community is there twice; more of them than anybody has are not compared. */
static bool distinct(struct octets value)
{
    enum { SIZE = 12, MOST = 64 };

    if (size_of(value) > SIZE * MOST)
        return false;
    for (const uint8_t *at = value.at; at < value.end; at += SIZE)
        for (const uint8_t *before = value.at; before < at; before += SIZE)
            if (memcmp(at, before, SIZE) == 0)
                return false;
    return true;
}

static bool shaped(const struct attribute *attribute, bool internal)
{
    const struct shape *shape = shapes + (attribute->kind <= LARGE_COMMUNITY ? attribute->kind : 0);
    size_t size = size_of(attribute->value);
    int ignored = shape->flags == OPTIONAL_TRANSITIVE ? EXTENDED | PARTIAL : EXTENDED;

    if (!shape->flags || (shape->internal && !internal) || (attribute->flags & ~ignored) != shape->flags)
        return false;
    if (shape->multiple)
        return size > 0 && size % shape->size == 0 &&
               (attribute->kind != LARGE_COMMUNITY || distinct(attribute->value));
    return size == shape->size && good_value(attribute);
}

static bool reduced(const struct attribute *attribute)
{
    size_t size = size_of(attribute->value);
    const uint8_t *at = attribute->value.at;

    return attribute->flags == OPTIONAL && (size == 5 + 4 || size == 5 + 16) && at[3] == size - 5 && at[size - 1] == 0;
}

/* How many AS numbers a path of AS_SEQUENCEs holds; -1: it holds something else, or nothing where something must be. */
static Py_ssize_t path_length(struct octets path)
{
    Py_ssize_t length = 0;

    while (path.at < path.end) {
        if (size_of(path) < 2 || path.at[0] != SEQUENCE || path.at[1] == 0 || size_of(path) < 2 + 4U * path.at[1])
            return -1;
        length += path.at[1];
        path.at += 2 + 4U * path.at[1];
    }
    return length;
}

static PyObject *path_numbers(struct octets path, Py_ssize_t length)
{
    PyObject *made = PyTuple_New(length);
    Py_ssize_t at = 0;

    while (made && path.at < path.end) {
        unsigned left = path.at[1];

        for (path.at += 2; left > 0; left--, path.at += 4) {
            PyObject *number = PyLong_FromUnsignedLong((unsigned long)two(path.at) << 16 | two(path.at + 2));

            if (!number) {
                Py_DECREF(made);
                return NULL;
            }
            PyTuple_SET_ITEM(made, at++, number);
        }
    }
    return made;
}

/* Find path and next hop of an ordinary attribute set; false: out of the ordinary. */
static bool scan_all(struct octets all, bool internal, struct octets *path, struct octets *next_hop)
{
    struct walk walk = {.left = all};
    struct attribute attribute;
    int found, origin = 0, paths = 0, next_hops = 0;

    while ((found = next_attribute(&walk, &attribute)) > 0) {
        if (attribute.kind == AS_PATH) {
            if ((attribute.flags & ~EXTENDED) != WELL_KNOWN)
                return false;
            *path = attribute.value;
            paths++;
        } else if (attribute.kind == MP_REACH_NLRI) {
            if (attribute.begin != all.at || !reduced(&attribute))
                return false;
            *next_hop = (struct octets){attribute.value.at + 4, attribute.value.end - 1};
            next_hops++;
        } else if (!shaped(&attribute, internal)) {
            return false;
        } else if (attribute.kind == NEXT_HOP) {
            *next_hop = attribute.value;
            next_hops++;
        } else if (attribute.kind == ORIGIN) {
            origin++;
        }
    }
    return found == 0 && origin == 1 && paths == 1 && next_hops == 1;
}

PyObject *hot_scan(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given, PyObject *keywords)
{
    struct octets all, path = {0}, next_hop = {0};
    Py_ssize_t length;
    PyObject *numbers;
    int internal;

    /* A truth value reads better by its name. */
    if (keywords && PyTuple_GET_SIZE(keywords) == 1 &&
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "internal") == 0)
        given++;
    else if (keywords && PyTuple_GET_SIZE(keywords) > 0)
        given = -1;
    if (!hot_arguments("scan", 2, given) || !hot_octets(arguments[0], &all) ||
        (internal = PyObject_IsTrue(arguments[1])) < 0)
        return NULL;
    if (!scan_all(all, internal != 0, &path, &next_hop) || (length = path_length(path)) < 0)
        Py_RETURN_NONE;
    numbers = path_numbers(path, length);
    if (!numbers)
        return NULL;
    return Py_BuildValue("(Ny#)", numbers, next_hop.at, (Py_ssize_t)size_of(next_hop));
}
