/* The C extension routing.bgp._hot: what nlri.py, table.py, scan.py and encode.py are the reference of (design note 0008).
 *
 * Its parts are the files hot_*.c beside this one. routing.bgp.hot chooses between it and the reference.
 */
#include "hot.h"

uint64_t hot_seed[3];

bool hot_arguments(const char *name, Py_ssize_t wanted, Py_ssize_t given)
{
    if (given == wanted)
        return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", name, wanted, given);
    return false;
}

bool hot_octets(PyObject *object, struct octets *octets)
{
    if (!PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "octets are bytes, not %.100s", Py_TYPE(object)->tp_name);
        return false;
    }
    octets->at = (const uint8_t *)PyBytes_AS_STRING(object);
    octets->end = octets->at + PyBytes_GET_SIZE(object);
    return true;
}

int hot_width(PyObject *object)
{
    long width = PyLong_AsLong(object);

    if (width == 32 || width == 128)
        return (int)width;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "the width of addresses is 32 or 128");
    return -1;
}

PyObject *hot_generic(PyObject *type, PyObject *item)
{
    return Py_GenericAlias(type, item);
}

/* The same for the whole life of the process, and different in the next one. */
static int fill_seed(void)
{
    PyObject *os = PyImport_ImportModule("os"), *octets = NULL;

    if (os)
        octets = PyObject_CallMethod(os, "urandom", "n", (Py_ssize_t)sizeof hot_seed);
    Py_XDECREF(os);
    if (!octets)
        return -1;
    if (!PyBytes_Check(octets) || PyBytes_GET_SIZE(octets) != (Py_ssize_t)sizeof hot_seed) {
        Py_DECREF(octets);
        PyErr_SetString(PyExc_RuntimeError, "os.urandom gave something else than was asked for");
        return -1;
    }
    memcpy(hot_seed, PyBytes_AS_STRING(octets), sizeof hot_seed);
    Py_DECREF(octets);
    /* The factors of a hash must be odd. */
    hot_seed[1] |= 1;
    hot_seed[2] |= 1;
    return 0;
}

static int execute(PyObject *module)
{
    /* Tables that are there already go on with the seed they know. */
    if (!hot_seed[1] && fill_seed() < 0)
        return -1;
    if (PyModule_AddType(module, &hot_filter_type) < 0)
        return -1;
    return PyModule_AddType(module, &hot_table_type);
}

static PyMethodDef methods[] = {
    {"normal", FASTCALL(hot_normal), METH_FASTCALL, "Return the prefixes without host bits."},
    {"count", hot_count_method, METH_O, "Return how many prefixes there are."},
    {"cut", FASTCALL(hot_cut), METH_FASTCALL, "Cut at prefix boundaries into pieces of at most so many octets."},
    {"split", FASTCALL(hot_split), METH_FASTCALL, "Return the whole messages, how many octets they are, and a fault."},
    {"lift", hot_lift, METH_O, "Take MP_REACH_NLRI and MP_UNREACH_NLRI out of attributes."},
    {"scan", FASTCALL(hot_scan), METH_FASTCALL | METH_KEYWORDS, "Return AS numbers and next hop of an ordinary attribute set."},
    {"weigh", hot_weigh, METH_O, "Return what the decision looks at of an attribute set."},
    {"announce", FASTCALL(hot_announce), METH_FASTCALL, "Return the messages that announce prefixes."},
    {"withdraw", FASTCALL(hot_withdraw), METH_FASTCALL, "Return the messages that withdraw prefixes."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "routing.bgp._hot",
    .m_doc = "The hot layer of the route server in C.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__hot(void)
{
    return PyModuleDef_Init(&definition);
}
