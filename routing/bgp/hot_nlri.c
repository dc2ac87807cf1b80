/* normal, count and cut: the C form of nlri.py; its PrefixFilter is in hot_filter.c. */
#include "hot.h"

Py_ssize_t hot_count(struct octets nlri, unsigned width)
{
    Py_ssize_t count = 0;

    for (; nlri.at < nlri.end; count++) {
        nlri.at = hot_after(nlri.at, nlri.end, width);
        if (!nlri.at) {
            PyErr_SetString(PyExc_ValueError, "NLRI: a length is too long, or the octets end within a prefix");
            return -1;
        }
    }
    return count;
}

PyObject *hot_count_method(PyObject *Py_UNUSED(module), PyObject *object)
{
    struct octets nlri;
    Py_ssize_t count;

    if (!hot_octets(object, &nlri) || (count = hot_count(nlri, 128)) < 0)
        return NULL;
    return PyLong_FromSsize_t(count);
}

/* Which bits of the last octet of a prefix belong to it. Of /0 that octet is the length itself: none of it is set. */
static inline uint8_t network_bits(uint8_t length)
{
    return (uint8_t)(0xff << (-length & 7));
}

static void clear_host_bits(uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        uint8_t *last = at + (*at + 7) / 8;

        if (last > at)
            *last &= network_bits(*at);
        at = last + 1;
    }
}

PyObject *hot_normal(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    struct octets nlri;
    const uint8_t *at, *after;
    PyObject *made;
    int width, dirty = 0;

    if (!hot_arguments("normal", 2, given) || !hot_octets(arguments[0], &nlri) || (width = hot_width(arguments[1])) < 0 ||
        hot_count(nlri, (unsigned)width) < 0)
        return NULL;
    for (at = nlri.at; at < nlri.end; at = after) {
        after = at + 1 + (*at + 7) / 8;
        dirty |= *at ? after[-1] & ~network_bits(*at) & 0xff : 0;
    }
    if (!dirty)
        return Py_NewRef(arguments[0]);
    made = PyBytes_FromStringAndSize((const char *)nlri.at, nlri.end - nlri.at);
    if (made) {
        uint8_t *octets = (uint8_t *)PyBytes_AS_STRING(made);

        clear_host_bits(octets, octets + PyBytes_GET_SIZE(made));
    }
    return made;
}

const uint8_t *hot_piece(struct octets nlri, Py_ssize_t room)
{
    const uint8_t *at = nlri.at;

    while (at < nlri.end) {
        const uint8_t *after = hot_after(at, nlri.end, 128);

        if (!after || (after - nlri.at > room && at == nlri.at)) {
            PyErr_SetString(PyExc_ValueError, "NLRI: a prefix is longer than the room for it, or than what is there");
            return NULL;
        }
        if (after - nlri.at > room)
            break;
        at = after;
    }
    return at;
}

PyObject *hot_cut(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    struct octets nlri;
    Py_ssize_t room;
    PyObject *pieces;

    if (!hot_arguments("cut", 2, given) || !hot_octets(arguments[0], &nlri))
        return NULL;
    room = PyLong_AsSsize_t(arguments[1]);
    if ((room == -1 && PyErr_Occurred()) || !(pieces = PyList_New(0)))
        return NULL;
    while (nlri.at < nlri.end) {
        const uint8_t *end = hot_piece(nlri, room);
        PyObject *piece = end ? PyBytes_FromStringAndSize((const char *)nlri.at, end - nlri.at) : NULL;

        if (!piece || PyList_Append(pieces, piece) < 0) {
            Py_XDECREF(piece);
            Py_DECREF(pieces);
            return NULL;
        }
        Py_DECREF(piece);
        nlri.at = end;
    }
    return pieces;
}
