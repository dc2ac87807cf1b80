/* PrefixFilter: the C form of the one in nlri.py. */
#include "hot.h"

#include <endian.h>

/* The first 128 bits of an address, as two numbers so that a mask is a shift. IPv4 addresses stand at the top. */
struct address {
    uint64_t high, low;
};

struct rule {
    struct address network;
    uint8_t length;
    int16_t shortest, longest;
};

/* The rules whose networks have one length, all that is needed to pass over them: most rules want one length only. */
struct stage {
    uint8_t length;
    int16_t shortest, longest;
};

typedef struct {
    PyObject_HEAD
    unsigned width;
    bool everything;
    uint32_t count;
    struct rule *rules;   /* sorted: those of one network stand together */
    struct index index;   /* the first rule of each network */
    unsigned stage_count;
    struct stage stages[129];
    bool heads[256]; /* whether any network holds addresses that begin with this octet */
} Filter;

static struct address read_address(const uint8_t *prefix)
{
    uint64_t halves[2] = {0, 0};

    memcpy(halves, prefix + 1, (*prefix + 7U) / 8U);
    return (struct address){be64toh(halves[0]), be64toh(halves[1])};
}

static inline struct address masked(struct address address, unsigned length)
{
    if (length == 0)
        return (struct address){0, 0};
    if (length <= 64)
        return (struct address){address.high & (UINT64_MAX << (64 - length)), 0};
    return (struct address){address.high, address.low & (UINT64_MAX << (128 - length))};
}

static inline bool same_network(const struct rule *rule, struct address address, unsigned length)
{
    return rule->network.high == address.high && rule->network.low == address.low && rule->length == length;
}

/* --- making ----------------------------------------------------------------------------------------------------- */

/* Lengths are anything in Python; beyond those of prefixes they are all alike. */
static bool read_length(PyObject *object, int16_t *length)
{
    int overflow;
    long number = PyLong_AsLongAndOverflow(object, &overflow);

    if (number == -1 && !overflow && PyErr_Occurred())
        return false;
    if (overflow)
        number = overflow * 256L;
    *length = (int16_t)(number < -1 ? -1 : number > 256 ? 256 : number);
    return true;
}

static bool read_rule(PyObject *item, unsigned width, struct rule *rule)
{
    struct octets network;

    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 3) {
        PyErr_SetString(PyExc_ValueError, "a rule is a network and two lengths");
        return false;
    }
    if (!hot_octets(PyTuple_GET_ITEM(item, 0), &network))
        return false;
    if (network.at == network.end || hot_after(network.at, network.end, width) != network.end) {
        PyErr_SetString(PyExc_ValueError, "the network of a rule is one prefix");
        return false;
    }
    memset(rule, 0, sizeof *rule);
    rule->length = *network.at;
    rule->network = masked(read_address(network.at), rule->length);
    return read_length(PyTuple_GET_ITEM(item, 1), &rule->shortest) && read_length(PyTuple_GET_ITEM(item, 2), &rule->longest);
}

static int compare(const void *one, const void *other)
{
    const struct rule *a = one, *b = other;

    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    if (a->network.high != b->network.high)
        return a->network.high < b->network.high ? -1 : 1;
    if (a->network.low != b->network.low)
        return a->network.low < b->network.low ? -1 : 1;
    return 0;
}

static void add_to_stage(Filter *self, const struct rule *rule)
{
    struct stage *last = self->stages + self->stage_count - 1;

    if (self->stage_count == 0 || last->length != rule->length) {
        self->stages[self->stage_count++] = (struct stage){rule->length, rule->shortest, rule->longest};
        return;
    }
    if (rule->shortest < last->shortest)
        last->shortest = rule->shortest;
    if (rule->longest > last->longest)
        last->longest = rule->longest;
}

static bool index_rules(Filter *self)
{
    qsort(self->rules, self->count, sizeof *self->rules, compare);
    for (uint32_t at = 0; at < self->count; at++) {
        const struct rule *rule = self->rules + at;

        add_to_stage(self, rule);
        for (unsigned head = 0; head < (rule->length < 8 ? 256U >> rule->length : 1U); head++)
            self->heads[(rule->network.high >> 56) + head] = true;
        self->everything |= rule->length == 0 && rule->shortest <= 0 && rule->longest >= (int)self->width;
        if (at > 0 && same_network(rule - 1, rule->network, rule->length))
            continue;
        if (!index_reserve(&self->index))
            return false;
        index_put(&self->index, hot_hash(rule->network.high, rule->network.low, rule->length), at);
    }
    return true;
}

static bool read_rules(Filter *self, PyObject *list)
{
    Py_ssize_t count = PyList_GET_SIZE(list);

    if (count == 0)
        return true;
    if (count >= (Py_ssize_t)(NIL / 2) || !(self->rules = PyMem_Calloc((size_t)count, sizeof *self->rules))) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t at = 0; at < count; at++)
        if (!read_rule(PyList_GET_ITEM(list, at), self->width, self->rules + at))
            return false;
    self->count = (uint32_t)count;
    return index_rules(self);
}

static PyObject *filter_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"", "", NULL};
    PyObject *width_object, *rules, *list;
    Filter *self;
    int width;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OO:PrefixFilter", names, &width_object, &rules) ||
        (width = hot_width(width_object)) < 0 || !(list = PySequence_List(rules)))
        return NULL;
    self = (Filter *)type->tp_alloc(type, 0);
    if (self) {
        self->width = (unsigned)width;
        if (!read_rules(self, list))
            Py_CLEAR(self);
    }
    Py_DECREF(list);
    return (PyObject *)self;
}

static void filter_dealloc(Filter *self)
{
    PyMem_Free(self->rules);
    PyMem_Free(self->index.slots);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* --- asking ----------------------------------------------------------------------------------------------------- */

/* `at`: the first rule of the network. */
static bool rules_cover(const Filter *self, uint32_t at, int wanted)
{
    const struct rule *first = self->rules + at;

    for (; at < self->count && same_network(self->rules + at, first->network, first->length); at++)
        if (self->rules[at].shortest <= wanted && wanted <= self->rules[at].longest)
            return true;
    return false;
}

static bool network_covers(const Filter *self, struct address network, unsigned length, int wanted)
{
    uint32_t hash = hot_hash(network.high, network.low, length);

    INDEX_EACH (&self->index, hash, slot)
        if (same_network(self->rules + self->index.slots[slot].number, network, length))
            return rules_cover(self, self->index.slots[slot].number, wanted);
    return false;
}

static bool covers(const Filter *self, const uint8_t *prefix)
{
    struct address address;
    int wanted = *prefix;

    if (!self->heads[wanted ? prefix[1] : 0])
        return false;
    address = read_address(prefix);
    for (unsigned at = 0; at < self->stage_count && self->stages[at].length <= wanted; at++) {
        const struct stage *stage = self->stages + at;

        if (stage->shortest <= wanted && wanted <= stage->longest &&
            network_covers(self, masked(address, stage->length), stage->length, wanted))
            return true;
    }
    return false;
}

/* Judge each prefix; returns how many octets the covered ones have. */
static size_t judge(const Filter *self, struct octets nlri, bool *verdicts)
{
    size_t size = 0;

    while (nlri.at < nlri.end) {
        size_t octets = 1 + (*nlri.at + 7U) / 8U;

        *verdicts = covers(self, nlri.at);
        size += *verdicts++ ? octets : 0;
        nlri.at += octets;
    }
    return size;
}

static PyObject *part(struct octets nlri, const bool *verdicts, size_t size)
{
    PyObject *covered = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    PyObject *others = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((size_t)(nlri.end - nlri.at) - size));
    char *to[2];

    if (!covered || !others) {
        Py_XDECREF(covered);
        Py_XDECREF(others);
        return NULL;
    }
    to[0] = PyBytes_AS_STRING(others);
    to[1] = PyBytes_AS_STRING(covered);
    for (; nlri.at < nlri.end; verdicts++) {
        size_t octets = 1 + (*nlri.at + 7U) / 8U;

        memcpy(to[*verdicts], nlri.at, octets);
        to[*verdicts] += octets;
        nlri.at += octets;
    }
    return Py_BuildValue("(NN)", covered, others);
}

static PyObject *filter_split(Filter *self, PyObject *object)
{
    struct octets nlri;
    Py_ssize_t count;
    PyObject *parts;
    bool *verdicts;
    size_t size;

    if (!hot_octets(object, &nlri))
        return NULL;
    if (self->everything)
        return Py_BuildValue("(Oy)", object, "");
    if (self->count == 0)
        return Py_BuildValue("(yO)", "", object);
    count = hot_count(nlri, self->width);
    if (count < 0)
        return NULL;
    verdicts = PyMem_Malloc((size_t)count + 1);
    if (!verdicts)
        return PyErr_NoMemory();
    size = judge(self, nlri, verdicts);
    if (size == (size_t)(nlri.end - nlri.at))
        parts = Py_BuildValue("(Oy)", object, "");
    else if (size == 0)
        parts = Py_BuildValue("(yO)", "", object);
    else
        parts = part(nlri, verdicts, size);
    PyMem_Free(verdicts);
    return parts;
}

/* Tell whether every prefix (`wanted`), or whether none, is covered; NULL if the octets are not prefixes. */
static PyObject *all_are(Filter *self, PyObject *object, bool wanted)
{
    struct octets nlri;

    if (!hot_octets(object, &nlri))
        return NULL;
    if (self->everything || self->count == 0)
        return PyBool_FromLong(nlri.at == nlri.end || self->everything == wanted);
    if (hot_count(nlri, self->width) < 0)
        return NULL;
    for (; nlri.at < nlri.end; nlri.at += 1 + (*nlri.at + 7U) / 8U)
        if (covers(self, nlri.at) != wanted)
            Py_RETURN_FALSE;
    Py_RETURN_TRUE;
}

static PyObject *filter_covers_all(Filter *self, PyObject *object)
{
    return all_are(self, object, true);
}

static PyObject *filter_covers_none(Filter *self, PyObject *object)
{
    return all_are(self, object, false);
}

static PyMethodDef filter_methods[] = {
    {"covers_all", (PyCFunction)filter_covers_all, METH_O, "Tell whether every prefix is covered."},
    {"covers_none", (PyCFunction)filter_covers_none, METH_O, "Tell whether no prefix is covered."},
    {"split", (PyCFunction)filter_split, METH_O, "Return the prefixes that a rule covers and those that none does."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject hot_filter_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "routing.bgp._hot.PrefixFilter",
    .tp_doc = "Which prefixes are covered by any of the rules.",
    .tp_basicsize = sizeof(Filter),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = filter_new,
    .tp_dealloc = (destructor)filter_dealloc,
    .tp_methods = filter_methods,
};
