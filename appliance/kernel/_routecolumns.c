/* The C extension appliance.kernel._routecolumns: what routecolumns.py is the reference of, and says what it does.
 *
 * Nothing here comes from the network: changes are objects that we made. The address of a network and the length of its
 * prefix are read where `ipaddress` keeps them, because its properties are Python and cost more than all else here.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* What is looked at of an object, and where it has it if it has __slots__: its class is asked but once. */
struct slot {
    const char *text;
    PyObject *name;
    PyTypeObject *type; /* owned: no other class is at its address meanwhile */
    Py_ssize_t offset;  /* 0 if there is no slot */
};

static struct slot its_old = {.text = "old"}, its_new = {.text = "new"}, its_mtu = {.text = "mtu"},
                   its_hops = {.text = "hops"}, its_proto = {.text = "proto"}, its_destination = {.text = "destination"},
                   its_network_address = {.text = "network_address"}, its_prefixlen = {.text = "_prefixlen"},
                   its_ip = {.text = "_ip"}, its_version = {.text = "version"};
static struct slot *const all_slots[] = {
    &its_old, &its_new, &its_mtu, &its_hops, &its_proto, &its_destination, &its_network_address, &its_prefixlen, &its_ip,
    &its_version,
};
/* Where a message has its sequence number and its destination. */
enum { AT_SEQUENCE = 8, AT_DESTINATION = 32 };
/* Octets of addresses that may be packed at once, so that no product overflows. */
enum { MOST = 1 << 24 };
/* Made once. */
static PyObject *to_delete, *to_move, *to_put, *no_hops;

/* What is seen of a change, each owned. The first six make its kind. */
enum { WORK, PROTO, TYPE, LENGTH, HOPS, MTU, KIND, CHANGE = KIND, OLD, NEW, NETWORK, ADDRESS, IP, PARTS };
/* Where a row has its columns. */
enum { CHANGES = 6, FACTS, ADDRESSES, NUMBERS, ROW };

struct latest {
    PyObject *kind[KIND], *row; /* borrowed, and kept: the row by the dictionary, the rest by the facts in it */
    int version, length;
};

static void learn(struct slot *slot, PyTypeObject *type)
{
    PyObject *found = PyObject_GetAttr((PyObject *)type, slot->name);
    PyMemberDescrObject *member = (PyMemberDescrObject *)found;

    PyErr_Clear();
    slot->offset = 0;
    if (found && Py_IS_TYPE(found, &PyMemberDescr_Type) && member->d_member->type == T_OBJECT_EX &&
        PyType_IsSubtype(type, member->d_common.d_type))
        slot->offset = member->d_member->offset;
    Py_XDECREF(found);
    Py_INCREF(type);
    Py_XSETREF(slot->type, type);
}

static PyObject *get(struct slot *slot, PyObject *object)
{
    PyObject *found;

    if (Py_TYPE(object) != slot->type)
        learn(slot, Py_TYPE(object));
    if (slot->offset && (found = *(PyObject **)((char *)object + slot->offset)))
        return Py_NewRef(found);
    return PyObject_GetAttr(object, slot->name);
}

/* Tell what is done; the strings are never freed, so they are the kind's as well. */
static PyObject *work_of(PyObject *const *part)
{
    PyObject *before;
    int same;

    if (part[NEW] == Py_None)
        return Py_NewRef(to_delete);
    if (part[OLD] == Py_None)
        return Py_NewRef(to_put);
    before = get(&its_mtu, part[OLD]);
    if (!before)
        return NULL;
    same = PyObject_RichCompareBool(before, part[MTU], Py_EQ);
    Py_DECREF(before);
    return same < 0 ? NULL : Py_NewRef(same ? to_move : to_put);
}

/* Look at a change; false with an exception. Whatever was found is the caller's to let go. */
static bool look(PyObject **part)
{
    PyObject *route;

    if (!(part[OLD] = get(&its_old, part[CHANGE])) || !(part[NEW] = get(&its_new, part[CHANGE])))
        return false;
    route = part[NEW] == Py_None ? part[OLD] : part[NEW];
    if (route == part[OLD]) {
        part[HOPS] = Py_NewRef(no_hops);
        part[MTU] = Py_NewRef(Py_None);
    } else if (!(part[HOPS] = get(&its_hops, route)) || !(part[MTU] = get(&its_mtu, route))) {
        return false;
    }
    if (!(part[WORK] = work_of(part)) || !(part[PROTO] = get(&its_proto, route)) ||
        !(part[NETWORK] = get(&its_destination, route)) ||
        !(part[LENGTH] = get(&its_prefixlen, part[NETWORK])) ||
        !(part[ADDRESS] = get(&its_network_address, part[NETWORK])))
        return false;
    part[TYPE] = Py_NewRef((PyObject *)Py_TYPE(part[NETWORK]));
    return (part[IP] = get(&its_ip, part[ADDRESS])) != NULL;
}

/* Make a row without columns. */
static PyObject *new_row(PyObject *const *part)
{
    PyObject *version = get(&its_version, part[NETWORK]), *row = NULL;
    PyObject *changes = PyList_New(0), *facts = PyList_New(0), *numbers = PyList_New(0);
    PyObject *addresses = PyByteArray_FromStringAndSize(NULL, 0);

    if (version && changes && facts && addresses && numbers)
        row = PyTuple_Pack(ROW, part[WORK], part[PROTO], version, part[LENGTH], part[HOPS], part[MTU], changes, facts,
                           addresses, numbers);
    Py_XDECREF(version);
    Py_XDECREF(changes);
    Py_XDECREF(facts);
    Py_XDECREF(addresses);
    Py_XDECREF(numbers);
    return row;
}

/* Return the row of a kind, borrowed from `rows`, which it joins if it is the first. */
static PyObject *find_row(PyObject *rows, PyObject *const *part)
{
    PyObject *id = PyLong_FromVoidPtr(part[HOPS]), *key = NULL, *row = NULL, *made;

    if (id)
        key = PyTuple_Pack(KIND, part[WORK], part[PROTO], part[TYPE], part[LENGTH], id, part[MTU]);
    Py_XDECREF(id);
    if (!key)
        return NULL;
    row = PyDict_GetItemWithError(rows, key);
    if (!row && !PyErr_Occurred() && (made = new_row(part))) {
        row = PyDict_SetItem(rows, key, made) < 0 ? NULL : made;
        Py_DECREF(made);
    }
    Py_DECREF(key);
    return row;
}

/* Have `latest` be the kind of a change; false with an exception. */
static bool turn(struct latest *latest, PyObject *rows, PyObject *const *part)
{
    latest->row = find_row(rows, part);
    if (!latest->row)
        return false;
    /* The hops of a row stay those of its first change, so their address is no other's meanwhile. */
    memcpy(latest->kind, part, sizeof latest->kind);
    latest->version = (int)PyLong_AsLong(PyTuple_GET_ITEM(latest->row, 2));
    latest->length = (int)PyLong_AsLong(part[LENGTH]);
    if (PyErr_Occurred())
        return false;
    if ((latest->version == 4 || latest->version == 6) && latest->length >= 0 &&
        latest->length <= (latest->version == 4 ? 32 : 128))
        return true;
    PyErr_SetString(PyExc_ValueError, "no prefix has such a length");
    return false;
}

/* Number a prefix of 64 bits and more. */
static PyObject *long_number(PyObject *ip, int length)
{
    PyObject *rest = PyLong_FromLong(128 - length), *size = PyLong_FromLong(length), *bit = PyLong_FromLong(1);
    PyObject *one = size && bit ? PyNumber_Lshift(bit, size) : NULL, *prefix = rest ? PyNumber_Rshift(ip, rest) : NULL;
    PyObject *found = one && prefix ? PyNumber_Or(one, prefix) : NULL;

    Py_XDECREF(rest);
    Py_XDECREF(size);
    Py_XDECREF(bit);
    Py_XDECREF(one);
    Py_XDECREF(prefix);
    return found;
}

/* Have the octets of an address, false with an exception; what IPv4 does not need is zero. */
static bool octets_of(PyObject *ip, uint8_t octets[16], size_t size)
{
    memset(octets, 0, 16);
    if (!PyLong_Check(ip)) {
        PyErr_Format(PyExc_TypeError, "an address is a number, not %.100s", Py_TYPE(ip)->tp_name);
        return false;
    }
#if PY_VERSION_HEX >= 0x030D0000
    Py_ssize_t needed = PyLong_AsNativeBytes(ip, octets, (Py_ssize_t)size,
                                             Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER |
                                                 Py_ASNATIVEBYTES_REJECT_NEGATIVE);
    if (needed > (Py_ssize_t)size)
        PyErr_SetString(PyExc_OverflowError, "no address has so many bits");
    return needed >= 0 && needed <= (Py_ssize_t)size;
#else
    return _PyLong_AsByteArray((PyLongObject *)ip, octets, size, 0, 0) == 0;
#endif
}

/* Number a prefix of an address. */
static PyObject *number_of(PyObject *ip, const uint8_t octets[16], int length)
{
    uint64_t first = 0;
    int i;

    if (length >= 64)
        return long_number(ip, length);
    for (i = 0; i < 8; i++)
        first = first << 8 | octets[i];
    return PyLong_FromUnsignedLongLong(1ULL << length | (length ? first >> (64 - length) : 0));
}

static bool append_octets(PyObject *addresses, const uint8_t *octets, Py_ssize_t size)
{
    Py_ssize_t at = PyByteArray_GET_SIZE(addresses);

    if (PyByteArray_Resize(addresses, at + size) < 0)
        return false;
    memcpy(PyByteArray_AS_STRING(addresses) + at, octets, (size_t)size);
    return true;
}

/* Put a change into the columns of the latest row. */
static bool put(const struct latest *latest, PyObject *const *part)
{
    PyObject *number, *fact = part[NEW] == Py_None ? part[OLD] : part[NEW];
    int size = latest->version == 4 ? 4 : 16;
    uint8_t octets[16];
    bool done;

    if (!octets_of(part[IP], octets, (size_t)size) || !(number = number_of(part[IP], octets, latest->length)))
        return false;
    done = PyList_Append(PyTuple_GET_ITEM(latest->row, NUMBERS), number) == 0 &&
           append_octets(PyTuple_GET_ITEM(latest->row, ADDRESSES), octets, size) &&
           PyList_Append(PyTuple_GET_ITEM(latest->row, FACTS), fact) == 0 &&
           PyList_Append(PyTuple_GET_ITEM(latest->row, CHANGES), part[CHANGE]) == 0;
    Py_DECREF(number);
    return done;
}

static bool gather_one(PyObject *change, PyObject *rows, struct latest *latest)
{
    PyObject *part[PARTS] = {0};
    bool done;
    int i;

    part[CHANGE] = Py_NewRef(change);
    done = look(part);
    if (done && (!latest->row || memcmp(latest->kind, part, sizeof latest->kind) != 0))
        done = turn(latest, rows, part);
    done = done && put(latest, part);
    for (i = 0; i < PARTS; i++)
        Py_XDECREF(part[i]);
    return done;
}

static PyObject *gather(PyObject *Py_UNUSED(module), PyObject *changes)
{
    PyObject *some = PySequence_Fast(changes, "changes are a sequence"), *rows = PyDict_New(), *found = NULL;
    struct latest latest = {0};
    Py_ssize_t i = 0;
    bool done = some && rows;

    for (; done && i < PySequence_Fast_GET_SIZE(some); i++)
        done = gather_one(PySequence_Fast_GET_ITEM(some, i), rows, &latest);
    if (done)
        found = PyDict_Values(rows);
    Py_XDECREF(some);
    Py_XDECREF(rows);
    return found;
}

/* fill(template, octets, size, sequence) */
static PyObject *fill(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer template, octets;
    Py_ssize_t size, count, i;
    PyObject *packed = NULL;
    unsigned int sequence; /* as the kernel has it: 32 bits, in the order of the host */
    char *to;

    if (!PyArg_ParseTuple(arguments, "y*y*nI:fill", &template, &octets, &size, &sequence))
        return NULL;
    if (size < 1 || octets.len % size || template.len < AT_DESTINATION + size || octets.len > MOST) {
        PyErr_SetString(PyExc_ValueError, "no address is of such a size, or the template has no place for one");
    } else if ((packed = PyByteArray_FromStringAndSize(NULL, (count = octets.len / size) * template.len))) {
        to = PyByteArray_AS_STRING(packed);
        for (i = 0; i < count; i++, sequence++, to += template.len) {
            memcpy(to, template.buf, (size_t)template.len);
            memcpy(to + AT_SEQUENCE, &sequence, sizeof sequence);
            memcpy(to + AT_DESTINATION, (const char *)octets.buf + i * size, (size_t)size);
        }
    }
    PyBuffer_Release(&template);
    PyBuffer_Release(&octets);
    return packed;
}

static bool word(PyObject **object, const char *text)
{
    return *object || (*object = PyUnicode_InternFromString(text));
}

static int execute(PyObject *Py_UNUSED(module))
{
    size_t i;

    for (i = 0; i < sizeof all_slots / sizeof *all_slots; i++)
        if (!word(&all_slots[i]->name, all_slots[i]->text))
            return -1;
    if (!word(&to_delete, "delete") || !word(&to_move, "move") || !word(&to_put, "put"))
        return -1;
    return no_hops || (no_hops = PyTuple_New(0)) ? 0 : -1;
}

static PyMethodDef methods[] = {
    {"gather", gather, METH_O, "Return rows of changes, one for each kind."},
    {"fill", fill, METH_VARARGS, "Return a message for each destination."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "appliance.kernel._routecolumns",
    .m_doc = "What applying routes costs beside the kernel's work, in C.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__routecolumns(void)
{
    return PyModuleDef_Init(&definition);
}
