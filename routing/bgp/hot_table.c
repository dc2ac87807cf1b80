/* PrefixTable: the C form of table.py, over the arrays of hot_prefixes.c. */
#include "hot_prefixes.h"

typedef struct {
    PyObject_HEAD
    bool busy; /* in the middle of something that may run Python code */
    struct prefixes prefixes;
} Table;

static bool not_busy(const Table *self)
{
    if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "a step must not change the table it is asked for");
    return !self->busy;
}

/* --- relabel: look up, ask, reserve, and then move, which cannot fail --------------------------------------------- */

/* The prefixes of a batch that have one label, and what becomes of it. */
struct answer {
    uint32_t from, to;          /* groups */
    PyObject *before, *after;   /* owned: the groups may go, and with them the last other reference */
    uint32_t first, last, count; /* a list through `next` of the batch */
};

struct batch {
    uint32_t *numbers, *next; /* entries, each once, and the next of the same label */
    uint32_t count;
    struct answer *answers;
    uint32_t answer_count, answer_capacity, nobody; /* nobody: as `asked` of a group */
    uint32_t small[64];
    struct answer few[4];
};

static bool batch_open(struct batch *batch, Py_ssize_t count)
{
    size_t half = sizeof batch->small / sizeof *batch->small / 2;

    batch->count = batch->answer_count = 0;
    batch->nobody = NIL;
    batch->answers = batch->few;
    batch->answer_capacity = sizeof batch->few / sizeof *batch->few;
    batch->numbers = batch->small;
    if ((size_t)count > half) {
        half = (size_t)count;
        batch->numbers = PyMem_Malloc(half * 2 * sizeof(uint32_t));
    }
    batch->next = batch->numbers + half;
    if (!batch->numbers)
        PyErr_NoMemory();
    return batch->numbers;
}

/* The answer for a group, made if there is none; NULL with MemoryError. */
static struct answer *answer_for(struct batch *batch, struct prefixes *prefixes, uint32_t group)
{
    uint32_t *asked = group == NOBODY ? &batch->nobody : &prefixes->groups[group].asked;
    struct answer *grown;

    if (*asked != NIL)
        return batch->answers + *asked;
    if (batch->answer_count == batch->answer_capacity) {
        grown = PyMem_Malloc(batch->answer_capacity * 2 * sizeof *grown);
        if (!grown) {
            PyErr_NoMemory();
            return NULL;
        }
        memcpy(grown, batch->answers, batch->answer_count * sizeof *grown);
        if (batch->answers != batch->few)
            PyMem_Free(batch->answers);
        batch->answers = grown;
        batch->answer_capacity *= 2;
    }
    *asked = batch->answer_count++;
    batch->answers[*asked] = (struct answer){
        .from = group, .to = NOBODY, .before = Py_NewRef(label_of(prefixes, group)), .first = NIL, .last = NIL};
    return batch->answers + *asked;
}

static bool look_up_one(struct batch *batch, struct prefixes *prefixes, const struct key *key)
{
    uint32_t number = prefixes_find_or_add(prefixes, key), at = batch->count;
    struct answer *answer;

    if (number == NIL)
        return false;
    if (entry_at(prefixes, number)->seen)
        return true;
    answer = answer_for(batch, prefixes, entry_at(prefixes, number)->group);
    if (!answer) {
        prefixes_drop_unused(prefixes, number);
        return false;
    }
    entry_at(prefixes, number)->seen = true;
    batch->numbers[at] = number;
    batch->next[at] = NIL;
    if (answer->count++ == 0)
        answer->first = at;
    else
        batch->next[answer->last] = at;
    answer->last = at;
    batch->count++;
    return true;
}

static bool look_up(struct batch *batch, struct prefixes *prefixes, struct octets nlri)
{
    struct walk_ahead walk = {.prefixes = prefixes, .left = nlri};
    const struct key *key;
    bool good = true;

    while (good && (key = walk_next(&walk)))
        good = look_up_one(batch, prefixes, key);
    /* Reset before anybody else is run: a step may look at the table. */
    for (uint32_t at = 0; at < batch->answer_count; at++)
        if (batch->answers[at].from != NOBODY)
            prefixes->groups[batch->answers[at].from].asked = NIL;
    return good;
}

static bool ask(struct batch *batch, PyObject *step)
{
    for (uint32_t at = 0; at < batch->answer_count; at++) {
        batch->answers[at].after = PyObject_CallOneArg(step, batch->answers[at].before);
        if (!batch->answers[at].after)
            return false;
    }
    return true;
}

static bool differs(const struct answer *answer)
{
    return answer->after && answer->after != answer->before;
}

/* Make everything that needs memory: groups, room for the changes, and what relabel returns. */
static PyObject *reserve(struct batch *batch, struct prefixes *prefixes)
{
    PyObject *changes = PyList_New(0);
    size_t total = 0;

    for (uint32_t at = 0; changes && at < batch->answer_count; at++) {
        struct answer *answer = batch->answers + at;
        PyObject *change;

        if (!differs(answer))
            continue;
        total += answer->count;
        change = Py_BuildValue("(OOk)", answer->before, answer->after, (unsigned long)answer->count);
        if (!change || PyList_Append(changes, change) < 0 || !prefixes_group_for(prefixes, answer->after, &answer->to))
            Py_CLEAR(changes);
        Py_XDECREF(change);
    }
    if (changes && !prefixes_reserve_changes(prefixes, total))
        Py_CLEAR(changes);
    return changes;
}

static void apply(const struct batch *batch, struct prefixes *prefixes)
{
    for (const struct answer *answer = batch->answers; answer < batch->answers + batch->answer_count; answer++)
        for (uint32_t at = answer->first; differs(answer) && at != NIL; at = batch->next[at])
            prefixes_move(prefixes, batch->numbers[at], answer->to);
}

/* Forget what was only needed for the batch. Labels go last: that may run anything. */
static void batch_close(struct batch *batch, Table *self)
{
    struct prefixes *prefixes = &self->prefixes;

    for (uint32_t at = 0; at < batch->count; at++)
        entry_at(prefixes, batch->numbers[at])->seen = false;
    if (batch->nobody != NIL)
        for (uint32_t at = batch->answers[batch->nobody].first; at != NIL; at = batch->next[at])
            prefixes_drop_unused(prefixes, batch->numbers[at]);
    for (uint32_t at = 0; at < batch->answer_count; at++) {
        prefixes_release_group(prefixes, batch->answers[at].from);
        prefixes_release_group(prefixes, batch->answers[at].to);
    }
    self->busy = false;
    for (uint32_t at = 0; at < batch->answer_count; at++) {
        Py_DECREF(batch->answers[at].before);
        Py_XDECREF(batch->answers[at].after);
    }
    if (batch->answers != batch->few)
        PyMem_Free(batch->answers);
    if (batch->numbers != batch->small)
        PyMem_Free(batch->numbers);
}

static PyObject *table_relabel(Table *self, PyObject *const *arguments, Py_ssize_t given)
{
    struct octets nlri;
    struct batch batch;
    PyObject *changes = NULL;
    Py_ssize_t count;

    if (!hot_arguments("relabel", 2, given) || !hot_octets(arguments[0], &nlri) ||
        (count = hot_count(nlri, self->prefixes.width)) < 0 || !not_busy(self) || !batch_open(&batch, count))
        return NULL;
    self->busy = true;
    if (look_up(&batch, &self->prefixes, nlri) && ask(&batch, arguments[1]))
        changes = reserve(&batch, &self->prefixes);
    if (changes)
        apply(&batch, &self->prefixes);
    batch_close(&batch, self);
    return changes;
}

static PyObject *table_relabel_all(Table *self, PyObject *const *arguments, Py_ssize_t given)
{
    struct prefixes *prefixes = &self->prefixes;
    uint32_t from, to, count, number, next;

    if (!hot_arguments("relabel_all", 2, given) || !not_busy(self))
        return NULL;
    from = prefixes_group(prefixes, arguments[0]);
    if (from == NIL || prefixes->groups[from].count == 0 || arguments[0] == arguments[1])
        return PyLong_FromLong(0);
    count = prefixes->groups[from].count;
    if (!prefixes_reserve_changes(prefixes, count) || !prefixes_group_for(prefixes, arguments[1], &to))
        return NULL;
    for (number = prefixes->groups[from].first; number != NIL; number = next) {
        next = entry_at(prefixes, number)->next;
        prefixes_move(prefixes, number, to);
    }
    prefixes_release_group(prefixes, from);
    return PyLong_FromUnsignedLong(count);
}

/* --- the other methods --------------------------------------------------------------------------------------------------- */

static PyObject *table_get(Table *self, PyObject *object)
{
    struct octets prefix;
    struct key key;
    uint32_t number;

    if (!hot_octets(object, &prefix))
        return NULL;
    if (prefix.at == prefix.end || hot_after(prefix.at, prefix.end, self->prefixes.width) != prefix.end)
        Py_RETURN_NONE;
    prefixes_key(&self->prefixes, prefix.at, &key);
    number = prefixes_find(&self->prefixes, &key);
    if (number == NIL)
        Py_RETURN_NONE;
    return Py_NewRef(label_of(&self->prefixes, entry_at(&self->prefixes, number)->group));
}

static PyObject *table_size(Table *self, PyObject *label)
{
    uint32_t group = prefixes_group(&self->prefixes, label);

    return PyLong_FromLong(group == NIL ? 0 : (long)self->prefixes.groups[group].count);
}

static PyObject *table_of(Table *self, PyObject *label)
{
    const struct prefixes *prefixes = &self->prefixes;
    uint32_t group = prefixes_group(prefixes, label), first = group == NIL ? NIL : prefixes->groups[group].first, at;
    size_t size = 0;
    PyObject *made;
    uint8_t *out;

    for (at = first; at != NIL; at = entry_at(prefixes, at)->next)
        size += entry_size(entry_at(prefixes, at));
    made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!made)
        return NULL;
    out = (uint8_t *)PyBytes_AS_STRING(made);
    for (at = first; at != NIL; at = entry_at(prefixes, at)->next)
        out = put_entry(out, entry_at(prefixes, at));
    return made;
}

static PyObject *table_labels(Table *self, PyObject *Py_UNUSED(nothing))
{
    const struct prefixes *prefixes = &self->prefixes;
    PyObject *labels = PyList_New(0);
    bool busy = self->busy;

    self->busy = true;
    for (uint32_t at = 0; labels && at < prefixes->group_count; at++) {
        const struct group *group = prefixes->groups + at;
        PyObject *item;

        if (!group->label || group->count == 0)
            continue;
        item = Py_BuildValue("(Ok)", group->label, (unsigned long)group->count);
        if (!item || PyList_Append(labels, item) < 0)
            Py_CLEAR(labels);
        Py_XDECREF(item);
    }
    self->busy = busy;
    return labels;
}

static PyObject *table_take_changes(Table *self, PyObject *Py_UNUSED(nothing))
{
    PyObject *changes;

    if (!not_busy(self))
        return NULL;
    self->busy = true;
    changes = hot_take_changes(&self->prefixes);
    self->busy = false;
    return changes;
}

static PyObject *table_within(Table *self, PyObject *object)
{
    struct octets nlri;
    PyObject *found;
    Py_ssize_t count;
    bool busy = self->busy;

    if (!hot_octets(object, &nlri) || (count = hot_count(nlri, self->prefixes.width)) < 0)
        return NULL;
    self->busy = true;
    found = hot_within(&self->prefixes, nlri, count);
    self->busy = busy;
    return found;
}

static Py_ssize_t table_length(Table *self)
{
    return (Py_ssize_t)self->prefixes.there;
}

/* --- the type ----------------------------------------------------------------------------------------------------- */

static PyObject *table_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"", NULL};
    PyObject *object;
    Table *self;
    int width;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:PrefixTable", names, &object) || (width = hot_width(object)) < 0)
        return NULL;
    self = (Table *)type->tp_alloc(type, 0);
    if (self)
        prefixes_open(&self->prefixes, (unsigned)width);
    return (PyObject *)self;
}

static int table_traverse(Table *self, visitproc visit, void *arg)
{
    for (uint32_t group = 0; group < self->prefixes.group_count; group++)
        Py_VISIT(self->prefixes.groups[group].label);
    return 0;
}

static int table_clear(Table *self)
{
    prefixes_close(&self->prefixes);
    return 0;
}

static void table_dealloc(Table *self)
{
    PyObject_GC_UnTrack(self);
    prefixes_close(&self->prefixes);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef table_methods[] = {
    {"relabel", FASTCALL(table_relabel), METH_FASTCALL, "Give each prefix the label that a step makes of the one it has."},
    {"relabel_all", FASTCALL(table_relabel_all), METH_FASTCALL, "Give all prefixes of a label another one."},
    {"take_changes", (PyCFunction)table_take_changes, METH_NOARGS, "Return what is not what it was at the last call."},
    {"get", (PyCFunction)table_get, METH_O, "Return the label of one prefix."},
    {"size", (PyCFunction)table_size, METH_O, "Return how many prefixes have a label."},
    {"of", (PyCFunction)table_of, METH_O, "Return all prefixes of a label."},
    {"labels", (PyCFunction)table_labels, METH_NOARGS, "Return the labels in use and how many prefixes each has."},
    {"within", (PyCFunction)table_within, METH_O, "Return the prefixes by the label they have."},
    {"__class_getitem__", hot_generic, METH_O | METH_CLASS, "The table is generic in its labels."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods table_as_sequence = {.sq_length = (lenfunc)table_length};

PyTypeObject hot_table_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "routing.bgp._hot.PrefixTable",
    .tp_doc = "What each prefix stands for, changed in bulk.",
    .tp_basicsize = sizeof(Table),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = table_new,
    .tp_dealloc = (destructor)table_dealloc,
    .tp_traverse = (traverseproc)table_traverse,
    .tp_clear = (inquiry)table_clear,
    .tp_as_sequence = &table_as_sequence,
    .tp_methods = table_methods,
};
