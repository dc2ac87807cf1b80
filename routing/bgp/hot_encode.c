/* announce and withdraw: the C form of encode.py. */
#include "hot.h"

enum {
    HEADER = 19,
    FIXED = HEADER + 4, /* and the lengths of withdrawn routes and attributes */
    UPDATE = 2,
    MP_REACH_NLRI = 14,
    MP_UNREACH_NLRI = 15,
    OPTIONAL = 0x80,
    EXTENDED = 0x10,
    SHORT = 255, /* the longest attribute whose length is one octet */
    LONGEST = 65535,
    IPV4_UNICAST = 1 << 8 | 1,
};

/* What all messages of one call have in common. The prefixes stand in the attribute `kind` after `head`, or, where
 * `kind` is 0, at the end of the message, or, if `withdrawn`, at its beginning. */
struct form {
    uint8_t kind;
    bool withdrawn;
    struct octets head, others;
    Py_ssize_t room; /* for prefixes in one message */
};

static size_t size_of(struct octets octets)
{
    return (size_t)(octets.end - octets.at);
}

static size_t value_size(const struct form *form, struct octets piece)
{
    return size_of(form->head) + size_of(piece);
}

static size_t message_size(const struct form *form, struct octets piece)
{
    size_t size = FIXED + value_size(form, piece) + size_of(form->others);

    return form->kind ? size + (value_size(form, piece) > SHORT ? 4 : 3) : size;
}

static uint8_t *put(uint8_t *at, struct octets octets)
{
    memcpy(at, octets.at, size_of(octets));
    return at + size_of(octets);
}

static uint8_t *put_two(uint8_t *at, size_t number)
{
    at[0] = (uint8_t)(number >> 8);
    at[1] = (uint8_t)number;
    return at + 2;
}

static uint8_t *put_attribute(uint8_t *at, const struct form *form, struct octets piece)
{
    size_t size = value_size(form, piece);

    *at++ = size > SHORT ? OPTIONAL | EXTENDED : OPTIONAL;
    *at++ = form->kind;
    if (size > SHORT)
        at = put_two(at, size);
    else
        *at++ = (uint8_t)size;
    return put(put(at, form->head), piece);
}

static uint8_t *put_message(uint8_t *at, const struct form *form, struct octets piece)
{
    size_t size = message_size(form, piece);

    memset(at, 0xff, 16);
    at = put_two(at + 16, size);
    *at++ = UPDATE;
    if (form->withdrawn)
        return put_two(put(put_two(at, size_of(piece)), piece), 0);
    at = put_two(at, 0);
    if (form->kind)
        return put(put_attribute(put_two(at, size - FIXED), form, piece), form->others);
    return put(put(put_two(at, size_of(form->others)), form->others), piece);
}

static PyObject *messages(const struct form *form, struct octets nlri)
{
    size_t size = 0;
    PyObject *made;
    uint8_t *out;

    for (struct octets piece = {nlri.at, nlri.at}; piece.at < nlri.end; piece.at = piece.end) {
        piece.end = hot_piece((struct octets){piece.at, nlri.end}, form->room);
        if (!piece.end)
            return NULL;
        size += message_size(form, piece);
    }
    made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!made)
        return NULL;
    out = (uint8_t *)PyBytes_AS_STRING(made);
    for (struct octets piece = {nlri.at, nlri.at}; piece.at < nlri.end; piece.at = piece.end) {
        piece.end = hot_piece((struct octets){piece.at, nlri.end}, form->room);
        out = put_message(out, form, piece);
    }
    return made;
}

/* Room beside the other attributes. The fourth octet of the attribute's header is paid only where it may be needed. */
static Py_ssize_t attribute_room(const struct form *form, Py_ssize_t limit)
{
    Py_ssize_t left = limit - FIXED - (Py_ssize_t)size_of(form->others);

    return left - (Py_ssize_t)size_of(form->head) - (left <= 3 + SHORT ? 3 : 4);
}

static bool read_limit(PyObject *object, Py_ssize_t *limit)
{
    *limit = PyLong_AsSsize_t(object);
    if (*limit == -1 && PyErr_Occurred())
        return false;
    if (*limit <= LONGEST)
        return true;
    PyErr_SetString(PyExc_ValueError, "no message is longer than 65535 octets");
    return false;
}

PyObject *hot_announce(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    struct form form = {0};
    struct octets all, nlri;
    Py_ssize_t limit;

    if (!hot_arguments("announce", 3, given) || !hot_octets(arguments[0], &all) || !hot_octets(arguments[1], &nlri) ||
        !read_limit(arguments[2], &limit))
        return NULL;
    form.others = all;
    form.head = (struct octets){all.at, all.at};
    if (size_of(all) < 2 || all.at[1] != MP_REACH_NLRI) {
        form.room = limit - FIXED - (Py_ssize_t)size_of(all);
        return messages(&form, nlri);
    }
    if (size_of(all) < 3 || all.at[0] != OPTIONAL || all.at[2] < 5 || size_of(all) < 3U + all.at[2]) {
        PyErr_SetString(PyExc_ValueError, "attributes: a MP_REACH_NLRI that is not reduced");
        return NULL;
    }
    form.kind = MP_REACH_NLRI;
    form.head = (struct octets){all.at + 3, all.at + 3 + all.at[2]};
    form.others.at = form.head.end;
    form.room = attribute_room(&form, limit);
    return messages(&form, nlri);
}

PyObject *hot_withdraw(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    uint8_t head[3];
    struct form form = {.head = {head, head}, .others = {head, head}};
    struct octets nlri;
    unsigned long family;
    Py_ssize_t limit;

    if (!hot_arguments("withdraw", 3, given) || !hot_octets(arguments[1], &nlri) || !read_limit(arguments[2], &limit))
        return NULL;
    family = PyLong_AsUnsignedLong(arguments[0]);
    if (family > 0xffffff) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_OverflowError, "a family is AFI << 8 | SAFI");
        return NULL;
    }
    if (family == IPV4_UNICAST) {
        form.withdrawn = true;
        form.room = limit - FIXED;
        return messages(&form, nlri);
    }
    put_two(head, family >> 8);
    head[2] = (uint8_t)family;
    form.kind = MP_UNREACH_NLRI;
    form.head.end = head + sizeof head;
    form.room = attribute_room(&form, limit);
    return messages(&form, nlri);
}
